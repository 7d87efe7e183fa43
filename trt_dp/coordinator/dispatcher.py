"""The shared queue: who holds which request, and what a death gives back. Pure: no processes, no time, no I/O."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from trt_dp.types import Failure

SUSPECTS_TOGETHER = 16
DEATHS_ALONE = 2
_NOTHING = np.empty(0, np.int64)

Indices = NDArray[np.int64]


class Stray(ValueError):  # noqa: N818 - the noun for an answer nobody asked for
    """A worker answered a request that it does not hold."""


class Dispatcher:
    """Requests on their way: each is pending, held by one worker, suspect, or gone.

    A request becomes suspect when a worker dies with it. Suspects wait until nothing else is pending,
    then run by sixteen in a worker that holds nothing else, then alone; one that was alone in two
    workers when they died is given up (in one worker twice, where there is no other). So only what
    kills is lost, and nothing for being near it, or in a worker that dies of whatever it holds.
    Nothing is given up before the engine is `proven` by an answer: until then it may be to blame itself.
    """

    def __init__(self, pending: Indices, workers: int, *, proven: bool = False) -> None:
        self._pending = pending
        self._next = 0
        self._workers = workers
        self._proven = proven
        self._held: dict[int, set[int]] = {}
        self._isolated: set[int] = set()
        self._suspects: list[list[int]] = []
        self._deaths: dict[int, int] = {}
        self._died_alone: dict[int, list[int]] = {}

    @property
    def unfinished(self) -> int:
        """How many requests are not gone yet."""
        return self.waiting + sum(map(len, self._held.values()))

    @property
    def waiting(self) -> int:
        """How many requests no worker holds."""
        return len(self._pending) - self._next + sum(map(len, self._suspects))

    @property
    def held(self) -> int:
        """How many requests are in the workers' hands."""
        return sum(map(len, self._held.values()))

    def deaths_of(self, index: int) -> int:
        """How many workers died with this request in their hands."""
        return self._deaths.get(index, 0)

    def take(self, worker: int, limit: int) -> Indices:
        """What `worker` shall have next, so that it holds at most `limit` and at most its share of the rest."""
        held = self._held.setdefault(worker, set())
        if self._next == len(self._pending):
            return self._take_suspects(worker, held, limit)
        if worker in self._isolated:
            return _NOTHING
        share = -(-self.unfinished // max(1, self._workers))
        room = min(limit, share) - len(held)
        if room <= 0:
            return _NOTHING
        taken = self._pending[self._next : self._next + room]
        self._next += len(taken)
        held.update(taken.tolist())
        return taken

    def finish(self, worker: int, indices: Iterable[int]) -> None:
        """These are answered; raises Stray, and changes nothing, if one is not held or comes twice."""
        answered = list(indices)
        held = self._held.get(worker, set())
        distinct = set(answered)
        if len(distinct) != len(answered) or not distinct <= held:
            msg = f"worker {worker} answered requests that it does not hold"
            raise Stray(msg)
        held -= distinct
        self._proven = True
        if not held:
            self._isolated.discard(worker)

    def lose(self, worker: int) -> list[int]:
        """The worker died: what it held is suspect now; returns what is given up instead."""
        lost = sorted(self._held.pop(worker, ()))
        for index in lost:
            self._deaths[index] = self._deaths.get(index, 0) + 1
        if worker not in self._isolated:
            starts = range(0, len(lost), SUSPECTS_TOGETHER)
            self._suspects.extend(lost[i : i + SUSPECTS_TOGETHER] for i in reversed(starts))
            return []
        self._isolated.discard(worker)
        if len(lost) == 1:
            return self._blame(worker, lost[0])
        self._suspects.extend([index] for index in reversed(lost))
        return []

    def retire(self) -> None:
        """One worker less will ever come back: the others' shares grow."""
        self._workers -= 1

    def _take_suspects(self, worker: int, held: set[int], limit: int) -> Indices:
        """The latest suspects first, so that a group that killed is told apart before the next one runs."""
        fit = (n for n, group in enumerate(reversed(self._suspects), 1) if self._may(worker, group))
        place = 0 if held else next(fit, 0)
        if not place:
            return _NOTHING
        group = self._suspects.pop(-place)
        if len(group) > limit:
            self._suspects.append(group[limit:])
            group = group[:limit]
        held.update(group)
        self._isolated.add(worker)
        return np.array(group, np.int64)

    def _may(self, worker: int, group: list[int]) -> bool:
        """A request that died alone in a worker is another's to try, as long as there is another."""
        died_in = self._died_alone.get(group[0], ())
        return worker not in died_in or len(set(died_in)) >= self._workers

    def _blame(self, worker: int, index: int) -> list[int]:
        died_in = self._died_alone.setdefault(index, [])
        died_in.append(worker)
        apart = len(set(died_in)) > 1 or self._workers <= 1
        if len(died_in) >= DEATHS_ALONE and apart and self._proven:
            return [index]
        last = (
            0 if not self._proven else len(self._suspects)
        )  # else others may prove the engine first
        self._suspects.insert(last, [index])
        return []


def given_up(reason: str, deaths: int) -> Failure:
    """The failure of a request that was alone in workers when they died."""
    message = f"the worker died each time it ran this request, the last time alone: {reason}"
    return Failure("worker_died", message, deaths)
