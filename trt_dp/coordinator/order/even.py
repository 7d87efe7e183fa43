"""The order of the file, where all answers are equally long: every worker gets as many as the others."""

from __future__ import annotations

from collections.abc import Iterable

from trt_dp.coordinator.order.contract import (
    Answered,
    Asking,
    Indices,
    as_they_came,
)
from trt_dp.coordinator.order.runs import Runs


class EvenOrder:
    """Requests leave in the order given, and each worker has a quota of them, so that the last batches are alike.

    A worker that has used its quota takes half of the largest one that is left, if that is more than it has in
    flight itself: so a slow or a dead worker holds nothing up.
    """

    def __init__(self, indices: Indices | Runs) -> None:
        self._indices = indices
        self._next = 0
        self._quotas: dict[int, int] = {}

    def __len__(self) -> int:
        """How many are left."""
        return len(self._indices) - self._next

    def take(self, asking: Asking) -> Indices:
        """The next ones, up to the worker's limit and its quota."""
        if not self._quotas:
            self._deal(max(1, asking.workers))
        room = asking.limit - asking.in_flight
        start = self._next
        while room > 0 and (some := min(room, self._quota(asking.worker, asking.limit - room))):
            self._quotas[asking.worker] -= some
            self._next += some
            room -= some
        return self._indices[start : self._next]

    def again(self, asking: Asking, waiting: Indices) -> Indices:
        """What came back goes first."""
        return as_they_came(asking, waiting)

    def learn(self, answered: Answered) -> None:
        """Nothing is learnt: the order is fixed."""

    def forget(self, worker: int, indices: Iterable[int]) -> None:
        """Nothing is known of what is in flight."""

    def lose(self, worker: int, indices: Iterable[int]) -> list[int]:
        """The others share its quota; suspects are tried in the order of the file too."""
        left, others = self._quotas.pop(worker, 0), sorted(self._quotas)
        if others:
            for place, other in enumerate(others):
                self._quotas[other] += left // len(others) + (place < left % len(others))
        elif left:
            self._quotas[worker] = left
        return sorted(indices)

    def _deal(self, workers: int) -> None:
        each, more = divmod(len(self), workers)
        self._quotas = {worker: each + (worker < more) for worker in range(workers)}

    def _quota(self, worker: int, in_flight: int) -> int:
        """What this worker may still take; once that is used up, half of the largest quota there is."""
        if not self._quotas.get(worker):
            self._quotas[worker] = self._half_of_the_largest(in_flight)
        return self._quotas[worker]

    def _half_of_the_largest(self, in_flight: int) -> int:
        richest = max(self._quotas, key=self._quotas.__getitem__)
        largest = self._quotas[richest]
        if largest <= in_flight:
            return 0
        half = -(-largest // 2)
        self._quotas[richest] -= half
        return half
