"""Which request kills workers: suspects run again beside others, then alone. Pure: no processes, no I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import numpy as np

from trt_dp.coordinator.order.contract import NOTHING, SUSPECTS_TOGETHER, Indices

DEATHS_ALONE = 2
_DEATHS_IN_VAIN = 3
_NOWHERE = -1


class Quarantine:
    """Requests that were in flight when a worker died: each waits here, runs again, or is given up.

    A first death is seldom a request's fault, so its suspects run again soon, beside other work: at most sixteen in
    one worker, and not in the one that died. Those of them that see a second death wait until nothing else is
    pending, or until workers die one after another without an answer, and run alone in a worker. One that was alone
    in two workers when they died is given up (in one worker twice, where there is no other). So only a request that
    kills is given up, and none for being near it, or in a worker that dies of whatever it runs. Nothing is given up
    before the engine is `proven` by an answer: until then the engine may be at fault.
    """

    def __init__(self, workers: int, *, proven: bool) -> None:
        self.proven = proven
        self._workers = workers
        self._deaths: dict[int, int] = {}
        self._waiting: dict[int, int] = {}  # the suspects of one death, and the worker that died
        self._running: dict[int, set[int]] = {}  # by worker: those of them that run again
        self._alone: deque[int] = deque()  # the suspects of more deaths
        self._isolated: set[int] = set()
        self._died_alone: dict[int, list[int]] = {}
        self._in_vain = 0  # deaths since the last answer

    def __len__(self) -> int:
        """How many suspects wait."""
        return len(self._waiting) + len(self._alone)

    def deaths_of(self, index: int) -> int:
        """How many workers died with this request in flight."""
        return self._deaths.get(index, 0)

    def isolates(self, worker: int) -> bool:
        """Whether this worker runs a suspect alone, and so must get nothing else."""
        return worker in self._isolated

    def prove(self) -> None:
        """The engine answered something."""
        self.proven = True
        self._in_vain = 0

    @property
    def hurries(self) -> bool:
        """Whether suspects run alone before anything else: where killers are many, workers die without an answer."""
        return self.proven and self._in_vain >= _DEATHS_IN_VAIN

    def enlist(self, workers: int) -> None:
        """So many more workers will come."""
        self._workers += workers

    def retire(self) -> None:
        """One worker less will ever come back."""
        self._workers -= 1

    @property
    def waiting_beside(self) -> int:
        """How many suspects wait that may run beside other work."""
        return len(self._waiting)

    @property
    def waiting(self) -> Indices:
        """The suspects that may run beside other work."""
        return (
            np.fromiter(self._waiting, np.int64, len(self._waiting)) if self._waiting else NOTHING
        )

    def room(self, worker: int) -> int:
        """How many more suspects may run beside other work in this worker."""
        return SUSPECTS_TOGETHER - len(self._running.get(worker, ()))

    def offer(self, worker: int, *, idle: bool) -> Indices:
        """The suspects that may run in this worker; those that died there only if it has nothing else to do."""
        if idle or self._workers <= 1:
            return self.waiting
        return np.array([i for i, died in self._waiting.items() if died != worker], np.int64)

    def give(self, worker: int, indices: Iterable[int]) -> None:
        """These suspects run in this worker now."""
        running = self._running.setdefault(worker, set())
        for index in indices:
            del self._waiting[index]
            running.add(index)

    def take_alone(self, worker: int) -> list[int]:
        """A suspect for a worker that has nothing else: the latest first, to examine one death before the next."""
        found = next((one for one in self._alone if self._may_run(worker, one)), None)
        if found is None:
            return []
        self._alone.remove(found)
        self._isolated.add(worker)
        return [found]

    def release(self, worker: int, indices: Iterable[int]) -> None:
        """These are no longer in flight there, and nothing died."""
        done = set(indices)
        if done:
            self._isolated.discard(worker)
        if running := self._running.get(worker):
            running -= done

    def lose(self, worker: int, lost: list[int]) -> list[int]:
        """The worker died with these in flight: they are suspects now; returns what is given up instead."""
        self.witness(lost)
        self._in_vain += bool(lost)
        if worker in self._isolated:
            self._isolated.discard(worker)
            return self._convict(worker, lost[0]) if lost else []
        before = self._running.get(worker, set()) & set(lost)
        self.release(worker, lost)
        self._waiting.update((index, worker) for index in lost if index not in before)
        self._alone.extendleft(index for index in reversed(lost) if index in before)
        return []

    def witness(self, indices: Iterable[int]) -> None:
        """A worker died with these in flight."""
        for index in indices:
            self._deaths[index] = self._deaths.get(index, 0) + 1

    def spare(self, worker: int, lost: list[int]) -> list[int]:
        """The worker died of something else: its suspects wait as they were; returns those that are none."""
        running = self._running.get(worker, set()) & set(lost)
        if worker in self._isolated:
            self._alone.extendleft(lost)
            lost = []
        self._isolated.discard(worker)
        self._running.pop(worker, None)
        self._waiting.update((index, _NOWHERE) for index in lost if index in running)
        return [index for index in lost if index not in running]

    def _may_run(self, worker: int, index: int) -> bool:
        """A request that died alone in a worker is for another one, as long as there is another."""
        died_in = self._died_alone.get(index, ())
        return worker not in died_in or len(set(died_in)) >= self._workers

    def _convict(self, worker: int, index: int) -> list[int]:
        """Give up a request that died alone often enough; else it waits for another try."""
        died_in = self._died_alone.setdefault(index, [])
        died_in.append(worker)
        apart = len(set(died_in)) > 1 or self._workers <= 1
        if len(died_in) >= DEATHS_ALONE and apart and self.proven:
            return [index]
        if self.proven:
            self._alone.appendleft(index)
        else:
            self._alone.append(index)  # others may prove the engine first
        return []
