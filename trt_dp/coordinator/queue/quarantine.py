"""Which request kills workers: suspects run apart, in smaller and smaller groups. Pure: no processes, no I/O."""

from __future__ import annotations

SUSPECTS_TOGETHER = 16
DEATHS_ALONE = 2


class Quarantine:
    """Requests that were in flight when a worker died: each waits here, runs apart, or is given up.

    Suspects run by sixteen in a worker that has nothing else in flight, then alone; one that was alone in
    two workers when they died is given up (in one worker twice, where there is no other). So only a request
    that kills is given up, and none for being near it, or in a worker that dies of whatever it runs.
    Nothing is given up before the engine is `proven` by an answer: until then the engine may be at fault.
    """

    def __init__(self, workers: int, *, proven: bool) -> None:
        self.proven = proven
        self._workers = workers
        self._groups: list[list[int]] = []
        self._isolated: set[int] = set()
        self._deaths: dict[int, int] = {}
        self._died_alone: dict[int, list[int]] = {}

    def __len__(self) -> int:
        """How many suspects wait."""
        return sum(map(len, self._groups)) if self._groups else 0

    def deaths_of(self, index: int) -> int:
        """How many workers died with this request in flight."""
        return self._deaths.get(index, 0)

    def isolates(self, worker: int) -> bool:
        """Whether this worker runs suspects, and so must get nothing else."""
        return worker in self._isolated

    def release(self, worker: int) -> None:
        """This worker has nothing in flight any more: it may run anything."""
        self._isolated.discard(worker)

    def enlist(self, workers: int) -> None:
        """So many more workers will come."""
        self._workers += workers

    def retire(self) -> None:
        """One worker less will ever come back."""
        self._workers -= 1

    def take(self, worker: int, limit: int) -> list[int]:
        """Suspects for an idle worker: the latest first, to examine one group that killed before the next."""
        place = self._latest_for(worker)
        if not place:
            return []
        group = self._groups.pop(-place)
        if len(group) > limit:
            self._groups.append(group[limit:])
        self._isolated.add(worker)
        return group[:limit]

    def lose(self, worker: int, lost: list[int]) -> list[int]:
        """The worker died with these in flight: they are suspects now; returns what is given up instead."""
        self.witness(lost)
        if worker not in self._isolated:
            self._add(lost, SUSPECTS_TOGETHER)
            return []
        self._isolated.discard(worker)
        if len(lost) == 1:
            return self._convict(worker, lost[0])
        self._add(lost, 1)
        return []

    def witness(self, indices: list[int]) -> None:
        """A worker died with these in flight."""
        for index in indices:
            self._deaths[index] = self._deaths.get(index, 0) + 1

    def spare(self, worker: int, suspects: list[int]) -> None:
        """The worker that ran these suspects died of something else: they wait as they were."""
        self._isolated.discard(worker)
        self._groups.append(suspects)

    def _add(self, suspects: list[int], together: int) -> None:
        """In groups of this size, so that the first of them runs first."""
        starts = range(0, len(suspects), together)
        self._groups.extend(suspects[start : start + together] for start in reversed(starts))

    def _latest_for(self, worker: int) -> int:
        """The place, from the end, of the latest group that this worker may run; 0 for none."""
        groups = enumerate(reversed(self._groups), 1)
        return next((place for place, group in groups if self._may_run(worker, group)), 0)

    def _may_run(self, worker: int, group: list[int]) -> bool:
        """A request that died alone in a worker is for another one, as long as there is another."""
        died_in = self._died_alone.get(group[0], ())
        return worker not in died_in or len(set(died_in)) >= self._workers

    def _convict(self, worker: int, index: int) -> list[int]:
        """Give up a request that died alone often enough; else it waits for another try."""
        died_in = self._died_alone.setdefault(index, [])
        died_in.append(worker)
        apart = len(set(died_in)) > 1 or self._workers <= 1
        if len(died_in) >= DEATHS_ALONE and apart and self.proven:
            return [index]
        place = len(self._groups) if self.proven else 0  # 0: others may prove the engine first
        self._groups.insert(place, [index])
        return []
