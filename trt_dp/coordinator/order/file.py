"""The order of the file, in equal shares."""

from __future__ import annotations

from collections.abc import Iterable

from trt_dp.coordinator.order.contract import (
    NOTHING,
    Answered,
    Asking,
    Indices,
    as_they_came,
    equal_share,
)
from trt_dp.coordinator.order.runs import Runs


class FileOrder:
    """Requests leave in the order in which they are given here, whoever asks."""

    def __init__(self, indices: Indices | Runs) -> None:
        self._indices = indices
        self._next = 0

    def __len__(self) -> int:
        """How many are left."""
        return len(self._indices) - self._next

    def take(self, asking: Asking) -> Indices:
        """The next ones, up to the worker's limit and its equal share."""
        share = equal_share(asking.unfinished, asking.workers)
        room = min(asking.limit, share) - asking.in_flight
        if room <= 0:
            return NOTHING
        taken = self._indices[self._next : self._next + room]
        self._next += len(taken)
        return taken

    def again(self, asking: Asking, waiting: Indices) -> Indices:
        """What came back goes first."""
        return as_they_came(asking, waiting)

    def learn(self, answered: Answered) -> None:
        """Nothing is learnt: the order is fixed."""

    def forget(self, worker: int, indices: Iterable[int]) -> None:
        """Nothing is known of what is in flight."""

    def lose(self, worker: int, indices: Iterable[int]) -> list[int]:
        """Suspects are tried in the order of the file too."""
        del worker
        return sorted(indices)
