"""Requests that came back without an answer though their worker lives. Pure: no processes, no time, no I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable


class Again:
    """They run before what is pending: at once, or in another worker if the request itself may be the cause."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._blameless: deque[int] = deque()
        self._accused: dict[int, int] = {}  # by which worker, while they wait
        self._accusers: dict[int, list[int]] = {}

    def __len__(self) -> int:
        """How many wait."""
        return len(self._blameless) + len(self._accused)

    def tries_of(self, index: int) -> int:
        """How often this request itself was blamed."""
        return len(self._accusers.get(index, ()))

    def enlist(self, workers: int) -> None:
        """So many more workers will come."""
        self._workers += workers

    def retire(self) -> None:
        """One worker less will ever come back."""
        self._workers -= 1

    def add(self, indices: Iterable[int]) -> None:
        """These came back for a reason that is not theirs."""
        self._blameless.extend(indices)

    def accuse(self, worker: int, indices: Iterable[int], *, proven: bool) -> list[int]:
        """These may be the cause themselves; returns those that have had their second try.

        Nothing is given up before the engine is `proven` by an answer.
        """
        return [index for index in indices if self._is_hopeless(worker, index, proven=proven)]

    def take(self, worker: int, room: int) -> list[int]:
        """Some for this worker, which has room for so many."""
        count = min(max(0, room), len(self._blameless))
        taken = [self._blameless.popleft() for _ in range(count)]
        others = [one for one, accuser in self._accused.items() if self._may_run(worker, accuser)]
        for one in others[: max(0, room - count)]:
            del self._accused[one]
            taken.append(one)
        return taken

    def _may_run(self, worker: int, accuser: int) -> bool:
        return worker != accuser or self._workers <= 1

    def _is_hopeless(self, worker: int, index: int, *, proven: bool) -> bool:
        accusers = self._accusers.setdefault(index, [])
        accusers.append(worker)
        apart = len(set(accusers)) > 1 or (len(accusers) > 1 and self._workers <= 1)
        if proven and apart:
            return True
        self._accused[index] = worker
        return False
