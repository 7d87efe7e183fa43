"""Which workers are ready, which ever were, and how many are left."""

from __future__ import annotations

from msgspec import structs

from trt_dp.wire.messages import Ready


class Crew:
    """The workers of a session: each is on its way, ready, dead, or retired."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.ready: dict[int, Ready] = {}
        self.left = workers
        self.deaths = 0
        self._loaded: set[int] = set()

    def enlist(self, workers: int) -> None:
        """So many more are on their way."""
        self.workers += workers
        self.left += workers

    def came_up(self, worker: int, ready: Ready) -> None:
        """A worker has loaded its engine."""
        self.ready[worker] = ready
        self._loaded.add(worker)

    def takes(self, worker: int, capacity: int) -> None:
        """A worker takes another number of requests at once from now on."""
        self.ready[worker] = structs.replace(self.ready[worker], capacity=capacity)

    @property
    def takes_nothing(self) -> bool:
        """Whether every worker that is left is ready, and none wants requests now."""
        ready = self.ready.values()
        return len(ready) == self.left and not any(one.capacity for one in ready)

    def has_loaded(self, worker: int) -> bool:
        """Whether the engine was ever loaded in this worker's place."""
        return worker in self._loaded

    def lose(self, worker: int, *, retired: bool) -> None:
        """A worker died."""
        self.deaths += 1
        self.ready.pop(worker, None)
        if retired:
            self.left -= 1
