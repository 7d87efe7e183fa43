"""Orders to compare with: what other tools do."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from trt_dp.coordinator.order.contract import (
    NOTHING,
    Answered,
    Asking,
    Indices,
    as_they_came,
)


class StaticSplit:
    """Every worker has its own queue from the start; a dead worker's queue waits for it."""

    def __init__(self, queues: list[Indices]) -> None:
        self._queues = queues

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


def dealt(indices: Indices, workers: int) -> StaticSplit:
    """One request after the other, to each worker in turn."""
    return StaticSplit([indices[worker::workers] for worker in range(workers)])


def by_groups(indices: Indices, groups: Indices, workers: int) -> StaticSplit:
    """Whole groups, to each worker in turn: what training by samples does with all samples of a prompt."""
    _, numbers = np.unique(groups[indices], return_inverse=True)
    return StaticSplit([indices[numbers % workers == worker] for worker in range(workers)])
