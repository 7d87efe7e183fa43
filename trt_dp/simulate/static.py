"""Orders to compare with: what other tools do."""

from __future__ import annotations

from collections.abc import Iterable

from trt_dp.coordinator.order.contract import (
    NOTHING,
    Answered,
    Asking,
    Indices,
    as_they_came,
)


class StaticSplit:
    """Every worker has its own queue from the start, dealt out one by one; a dead worker's queue waits for it."""

    def __init__(self, indices: Indices, workers: int) -> None:
        self._queues = [indices[worker::workers] for worker in range(workers)]

    def __len__(self) -> int:
        """How many are left in all queues."""
        return sum(map(len, self._queues))

    def take(self, asking: Asking) -> Indices:
        """The next of this worker's own queue."""
        room = asking.limit - asking.in_flight
        if room <= 0:
            return NOTHING
        queue = self._queues[asking.worker]
        self._queues[asking.worker] = queue[room:]
        return queue[:room]

    def again(self, asking: Asking, waiting: Indices) -> Indices:
        """What came back goes first."""
        return as_they_came(asking, waiting)

    def learn(self, answered: Answered) -> None:
        """Nothing is learnt."""

    def forget(self, worker: int, indices: Iterable[int]) -> None:
        """Nothing is known of what is in flight."""

    def lose(self, worker: int, indices: Iterable[int]) -> list[int]:
        """In the order of the file."""
        del worker
        return sorted(indices)
