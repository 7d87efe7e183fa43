"""Requests that begin alike stay together, so that an engine's prefix cache holds what they share."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from trt_dp.coordinator.order.contract import (
    NOTHING,
    Answered,
    Asking,
    Indices,
    as_they_came,
    equal_share,
)
from trt_dp.dataset.prefixes import ALONE


class PrefixOrder:
    """Each worker works on a group of its own, the largest groups first; at the end the largest rest is split.

    So a shared prefix is computed once or twice in the whole run, and no worker idles while work waits.
    Requests that share nothing fill the gaps at the end, the longest first.
    """

    def __init__(
        self, indices: Indices, groups: NDArray[np.int64], costs: NDArray[np.float64]
    ) -> None:
        self._costs = costs
        self._waiting = deque(_together(indices, groups, costs))
        alone = indices[groups[indices] == ALONE]
        self._alone = alone[np.argsort(-costs[alone], kind="stable")]
        self._mine: dict[int, Indices] = {}
        self._left = len(indices)

    def __len__(self) -> int:
        """How many are left."""
        return self._left

    def take(self, asking: Asking) -> Indices:
        """From the worker's own group, then from the next one, up to its limit and its equal share."""
        room = min(asking.limit, equal_share(asking.unfinished, asking.workers)) - asking.in_flight
        if room <= 0:
            return NOTHING
        parts = []
        while room > 0 and len(part := self._some(asking.worker, room)):
            parts.append(part)
            room -= len(part)
        taken = np.concatenate(parts) if parts else NOTHING
        self._left -= len(taken)
        return taken

    def again(self, asking: Asking, waiting: Indices) -> Indices:
        """What came back goes first."""
        return as_they_came(asking, waiting)

    def learn(self, answered: Answered) -> None:
        """Nothing is learnt: groups stay as they are."""

    def forget(self, worker: int, indices: Iterable[int]) -> None:
        """Nothing is known of what is in flight."""

    def lose(self, worker: int, indices: Iterable[int]) -> list[int]:
        """The rest of this worker's group is for whoever asks next: its cache is lost."""
        rest = self._mine.pop(worker, NOTHING)
        if len(rest):
            self._waiting.appendleft(rest)
        return sorted(indices)

    def _some(self, worker: int, room: int) -> Indices:
        mine = self._mine.get(worker, NOTHING)
        if not len(mine):
            mine = self._next_group(room)
        self._mine[worker] = mine[room:]
        return mine[:room]

    def _next_group(self, room: int) -> Indices:
        if self._waiting:
            return self._waiting.popleft()
        if len(self._alone):
            some: Indices = self._alone[:room]
            self._alone = self._alone[room:]
            return some
        return self._split()

    def _split(self) -> Indices:
        """Half of what another worker has most of; all of it, if that is a single request."""
        if not any(map(len, self._mine.values())):
            return NOTHING
        richest = max(self._mine, key=lambda worker: float(self._costs[self._mine[worker]].sum()))
        rest = self._mine[richest]
        kept = len(rest) // 2
        self._mine[richest] = rest[:kept]
        split: Indices = rest[kept:]
        return split


def _together(
    indices: Indices, groups: NDArray[np.int64], costs: NDArray[np.float64]
) -> list[Indices]:
    """The members of each group, the longest first; the group with the most work first."""
    members = indices[groups[indices] != ALONE]
    order = np.lexsort((-costs[members], groups[members]))
    members = members[order]
    if not len(members):
        return []
    borders = np.flatnonzero(np.diff(groups[members])) + 1
    parts = np.split(members, borders)
    return sorted(parts, key=lambda part: -float(costs[part].sum()))
