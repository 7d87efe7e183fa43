"""Requests that two workers have at once: the first answer counts. Pure: no processes, no time, no I/O."""

from __future__ import annotations

from collections.abc import Iterable

Hold = tuple[int, int]  # a worker, and a request that it has


class Doubles:
    """A request is held by one worker, or by two; whoever is second is beaten, and forgotten when it comes back."""

    def __init__(self) -> None:
        self._holders: dict[int, tuple[int, int]] = {}  # who had it first, and who has the copy
        self._beaten: dict[int, set[int]] = {}

    def __len__(self) -> int:
        """How many requests two workers have."""
        return len(self._holders)

    def __contains__(self, index: int) -> bool:
        """Whether two workers have this request."""
        return index in self._holders

    def add(self, index: int, first: int, copier: int) -> None:
        """A copy of this request starts."""
        self._holders[index] = (first, copier)

    def is_copy(self, worker: int, index: int) -> bool:
        """Whether this worker has the copy, and another one the request."""
        holders = self._holders.get(index)
        return holders is not None and holders[1] == worker

    def drop(self, worker: int, index: int) -> bool:
        """This worker has it no longer, and gave no answer; returns whether another one still has it."""
        return worker in self._holders.get(index, ()) and bool(self._holders.pop(index))

    def win(self, worker: int, indices: Iterable[int]) -> list[Hold]:
        """This worker answered these; returns who else has which of them: they are beaten."""
        if not self._holders:
            return []
        beaten = []
        for index in indices:
            if index in self._holders:
                first, copier = self._holders.pop(index)
                loser = copier if worker == first else first
                self._beaten.setdefault(loser, set()).add(index)
                beaten.append((loser, index))
        return beaten

    def beaten(self, worker: int) -> int:
        """How many beaten requests this worker has not ended yet."""
        return len(self._beaten.get(worker, ()))

    def forget(self, worker: int, index: int) -> bool:
        """Whether this worker's answer is to be forgotten, because another one's came first; asked once of each."""
        mine = self._beaten.get(worker, set())
        found = index in mine
        mine.discard(index)
        return found

    def lose(self, worker: int) -> None:
        """The worker died: nothing beaten will come from it."""
        self._beaten.pop(worker, None)
