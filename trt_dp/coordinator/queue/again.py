"""Requests that came back without an answer and without a suspicion. Pure: no processes, no time, no I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np

from trt_dp.coordinator.order.contract import Indices

_NOBODY = -1
_TRIES_UNPROVEN = 8


class Again:
    """They run before what is pending: at once, or in another worker if the request itself may be the cause."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._waiting: dict[
            int, int
        ] = {}  # and the worker that blames the request for it, if one does
        self._accusers: dict[int, list[int]] = {}
        self._blamed: Counter[int] = Counter()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

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
        self._waiting.update(dict.fromkeys(indices, _NOBODY))

    def worn_out(self, indices: Iterable[int], *, proven: bool) -> list[int]:
        """Of these, which were blamed again, those with eight such tries where the engine never answered anything."""
        blamed = list(indices)
        self._blamed.update(blamed)
        return [] if proven else [one for one in blamed if self._blamed[one] >= _TRIES_UNPROVEN]

    def accuse(self, worker: int, indices: Iterable[int], *, proven: bool) -> list[int]:
        """These may be the cause themselves; returns those that have had their second try.

        Nothing is given up before the engine is `proven` by an answer.
        """
        return [index for index in indices if self._is_hopeless(worker, index, proven=proven)]

    @property
    def waiting(self) -> Indices:
        """All that wait."""
        return np.fromiter(self._waiting, np.int64, len(self._waiting))

    def offer(self, worker: int) -> Indices:
        """Those that may run in this worker."""
        found = [one for one, accuser in self._waiting.items() if self._may_run(worker, accuser)]
        return np.array(found, np.int64)

    def give(self, indices: Iterable[int]) -> None:
        """These run now."""
        for index in indices:
            del self._waiting[index]

    def _may_run(self, worker: int, accuser: int) -> bool:
        return worker != accuser or self._workers <= 1

    def _is_hopeless(self, worker: int, index: int, *, proven: bool) -> bool:
        accusers = self._accusers.setdefault(index, [])
        accusers.append(worker)
        apart = len(set(accusers)) > 1 or (len(accusers) > 1 and self._workers <= 1)
        if proven and apart:
            return True
        self._waiting[index] = worker
        return False
