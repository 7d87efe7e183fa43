"""Which workers are ready, which ever were, and how many are left."""

from __future__ import annotations

from msgspec import structs

from trt_dp.wire.messages import Ready


class Crew:
    """The workers of a session: each is on its way, ready, dead, or retired."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.ready: dict[int, Ready] = {}
        self.deaths = 0
        self._loaded: set[int] = set()
        self._given_up: set[int] = set()
        self._retired: set[int] = set()
        self._told = 0

    def enlist(self, workers: int) -> None:
        """So many more are on their way."""
        self.workers += workers

    @property
    def left(self) -> int:
        """How many are not given up."""
        return self.workers - len(self._given_up)

    @property
    def remaining(self) -> int:
        """How many have not died for good; one that is given up may still be on its way out."""
        return self.workers - len(self._retired)

    def fewer(self) -> str:
        """How many remain, for the user, if any died for good since this was asked last."""
        before, self._told = self._told, len(self._retired)
        return f"{self.remaining} of {self.workers} workers are left" if self._told > before else ""

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
            self._retired.add(worker)
            self.give_up(worker)

    def give_up(self, worker: int) -> None:
        """A worker will not be started again; it may be told several times."""
        self._given_up.add(worker)
