"""Which request is where, and who gets which next. Pure: no processes, no time, no I/O."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from trt_dp.coordinator.order.contract import (
    NOTHING,
    Answered,
    Asking,
    Indices,
    Order,
    equal_share,
)
from trt_dp.coordinator.order.file import FileOrder
from trt_dp.coordinator.queue.again import Again
from trt_dp.coordinator.queue.copies import Copies, Running
from trt_dp.coordinator.queue.doubles import Doubles, Hold
from trt_dp.coordinator.queue.quarantine import Quarantine
from trt_dp.types import Blame

_COPIES_SHARE = 8  # of a batch: a small one is fast


class Stray(ValueError):  # noqa: N818 - the noun for an answer nobody asked for
    """A worker answered a request that it does not have in flight."""


class Dispatcher:
    """The requests of a session: each is pending, in flight in one worker, suspect, or completed.

    A request becomes suspect when a worker dies with it. The quarantine says in which company suspects run, and
    which of them are given up. What a living worker gives back without an answer goes next. Which request goes
    where, and how many a worker may have in flight, is the order's to say; without one it is the file's.
    With `copies`, a request may be in flight in two workers once nothing waits; the first answer completes it.
    """

    def __init__(
        self,
        pending: Indices | Order,
        workers: int,
        *,
        proven: bool = False,
        copies: Copies | None = None,
    ) -> None:
        self._pending = FileOrder(pending) if isinstance(pending, np.ndarray) else pending
        self._quarantine = Quarantine(workers, proven=proven)
        self._again = Again(workers)
        self._workers = workers
        self._kv_tokens: dict[int, int] = {}
        self._in_flight: dict[int, set[int]] = {}
        self._copies = copies
        self._doubles = Doubles()

    @property
    def unfinished(self) -> int:
        """How many requests are not completed yet."""
        return self.pending + self.in_flight

    @property
    def pending(self) -> int:
        """How many requests no worker has, suspects included."""
        return len(self._pending) + len(self._again) + len(self._quarantine)

    @property
    def in_flight(self) -> int:
        """How many requests are in flight, in all workers; one that has a copy counts once."""
        return sum(map(len, self._in_flight.values())) - len(self._doubles)

    def deaths_of(self, index: int) -> int:
        """How many workers died with this request in flight, or gave it back because of it."""
        return self._quarantine.deaths_of(index) + self._again.tries_of(index)

    def take(self, worker: int, limit: int) -> Indices:
        """The next requests for `worker`, so that it has at most `limit` in flight, and at most its share."""
        self._in_flight.setdefault(worker, set())
        if self._quarantine.isolates(worker):
            return NOTHING
        if self._quarantine.hurries and len(alone := self._take_alone(worker, limit)):
            return alone
        full = len(self._in_flight[worker]) >= limit
        back = self._take_back(worker, limit) if self._came_back and not full else NOTHING
        if len(self._pending):
            taken = self._pending.take(self._asking(worker, limit))
            self._hold(worker, taken.tolist())
            return np.concatenate([back, taken]) if len(back) else taken
        busy = self._in_flight[worker] or self._doubles.beaten(worker)
        return back if busy else self._take_what_waits(worker, limit)

    def copy(self, worker: int, limit: int) -> Indices:
        """Copies of what others have in flight, for a worker that has nothing else and for which `take` had nothing."""
        mine = self._in_flight.setdefault(worker, set())
        room = min(limit - len(mine) - self._doubles.beaten(worker), max(1, limit // _COPIES_SHARE))
        if self._copies is None or self.pending or room <= 0 or not self._is_free(worker, mine):
            return NOTHING
        if not self._copies.is_due(worker):
            return NOTHING
        chosen = self._copies.choose(worker, self._single())[:room]
        for one in chosen:
            self._doubles.add(one.index, one.worker, worker)
        indices = [one.index for one in chosen]
        mine.update(indices)
        return np.array(indices, np.int64)

    def beaten(self, worker: int, indices: Iterable[int]) -> list[bool]:
        """Which of these answers of a worker came second: they are to be forgotten, and now are."""
        return [self._doubles.forget(worker, index) for index in indices]

    def finish(self, worker: int, indices: Iterable[int]) -> list[Hold]:
        """These are answered; raises Stray, and changes nothing, if one is not in flight there or comes twice.

        Returns who else has which of them: those copies are beaten, whatever comes of them.
        """
        answered = list(indices)
        self._remove(worker, answered)
        self._quarantine.prove()
        beaten = self._doubles.win(worker, answered)
        for loser, index in beaten:
            self._in_flight[loser].discard(index)
            self._pending.forget(loser, [index])
        self._quarantine.release(worker, answered)
        return beaten

    def learn(self, answered: Answered) -> None:
        """How long answers were and took, for the order and for copies."""
        self._pending.learn(answered)
        if self._copies:
            self._copies.learn(answered)

    def give_back(self, worker: int, indices: Iterable[int], blame: Blame) -> list[int]:
        """The worker lives and has no answer to these; returns what is given up. Raises Stray like `finish`."""
        returned = list(indices)
        self._remove(worker, returned)
        self._pending.forget(worker, returned)
        returned = [index for index in returned if not self._doubles.drop(worker, index)]
        if blame == "none":
            self._quarantine.release(worker, returned)
            self._again.add(returned)
            return []
        proven = self._quarantine.proven
        worn = self._again.worn_out(returned, proven=proven)
        rest = [one for one in returned if one not in worn]
        self._quarantine.release(worker, worn if blame == "batch" else returned)
        if blame == "batch":
            return worn + self._quarantine.lose(worker, sorted(rest))
        return worn + self._again.accuse(worker, rest, proven=proven)

    def _remove(self, worker: int, indices: list[int]) -> None:
        mine = self._in_flight.get(worker, set())
        distinct = set(indices)
        if len(distinct) != len(indices) or not distinct <= mine:
            msg = f"worker {worker} answered requests that it does not have"
            raise Stray(msg)
        mine -= distinct

    def lose(self, worker: int, *, innocent: bool = False) -> list[int]:
        """The worker died: what it had in flight is suspect now; returns what is given up instead.

        If it died only because of another worker's death or the loss of its host, what it had goes next.
        """
        lost = self._pending.lose(worker, self._in_flight.pop(worker, ()))
        lost = self._without_copies(worker, lost)
        if not innocent:
            return self._quarantine.lose(worker, lost)
        self._again.add(self._quarantine.spare(worker, lost))
        return []

    def came_up(self, worker: int, kv_tokens: int) -> None:
        """The engine of this worker is ready; its KV cache holds so many tokens, 0 if that is not known."""
        self._kv_tokens[worker] = kv_tokens

    def enlist(self, workers: int) -> None:
        """So many more workers will come: the others' shares shrink."""
        self._workers += workers
        self._quarantine.enlist(workers)
        self._again.enlist(workers)

    def miss(self, workers: int) -> None:
        """So many take nothing for now: no suspect waits for them any more. A negative number are back."""
        for part in (self._quarantine, self._again):
            part.enlist(-workers)

    def retire(self) -> None:
        """One worker less will ever come back: the others' shares grow."""
        self._workers -= 1
        self._quarantine.retire()
        self._again.retire()

    def _limit(self, limit: int) -> int:
        """While other workers are still to come, nobody takes more than an equal share: the rest is theirs."""
        if len(self._in_flight) >= self._workers:
            return limit
        return min(limit, equal_share(self.unfinished, self._workers))

    @property
    def _came_back(self) -> int:
        return len(self._again) + self._quarantine.waiting_beside

    def _asking(self, worker: int, limit: int, most: int | None = None) -> Asking:
        waiting = NOTHING
        if self._came_back:
            waiting = np.concatenate([self._again.waiting, self._quarantine.waiting])
        return Asking(
            worker=worker,
            in_flight=len(self._in_flight[worker]),
            limit=self._limit(limit),
            unfinished=self.unfinished,
            workers=self._workers,
            kv_tokens=self._kv_tokens.get(worker, 0),
            waiting=waiting,
            again=limit if most is None else most,
        )

    def _take_back(self, worker: int, limit: int) -> Indices:
        """Of what came back, as much as the order finds right for this worker; suspects only beside a few others."""
        free = self._again.offer(worker) if len(self._again) else NOTHING
        if len(free):
            free = self._pending.again(self._asking(worker, limit), free)
            self._run_again(worker, free)
        room = self._quarantine.room(worker)
        suspects = self._quarantine.offer(worker, idle=False) if room > 0 else NOTHING
        if len(suspects):
            suspects = self._pending.again(self._asking(worker, limit, room), suspects)
            self._run_suspects(worker, suspects)
        return np.concatenate([free, suspects])

    def _take_what_waits(self, worker: int, limit: int) -> Indices:
        """Something for a worker that has nothing while nothing is pending: others first, then one that runs alone."""
        if len(free := self._again.offer(worker)[:limit]):
            self._run_again(worker, free)
            return free
        room = min(limit, self._quarantine.room(worker))
        if len(suspects := self._quarantine.offer(worker, idle=True)[:room]):
            self._run_suspects(worker, suspects)
            return suspects
        return self._take_alone(worker, limit)

    def _take_alone(self, worker: int, limit: int) -> Indices:
        """A suspect that runs alone, for a worker that has nothing."""
        busy = self._in_flight[worker] or self._doubles.beaten(worker)
        alone = self._quarantine.take_alone(worker) if limit > 0 and not busy else []
        self._hold(worker, alone)
        return np.array(alone, np.int64)

    def _run_again(self, worker: int, indices: Indices) -> None:
        self._again.give(indices.tolist())
        self._hold(worker, indices.tolist())

    def _run_suspects(self, worker: int, indices: Indices) -> None:
        self._quarantine.give(worker, indices.tolist())
        self._hold(worker, indices.tolist())

    def _hold(self, worker: int, taken: list[int]) -> None:
        self._in_flight[worker].update(taken)
        if self._copies:
            self._copies.sent(taken)

    def _is_free(self, worker: int, mine: set[int]) -> bool:
        """Whether a worker has nothing but copies, and no suspects."""
        only_copies = all(self._doubles.is_copy(worker, index) for index in mine)
        return only_copies and not self._quarantine.isolates(worker)

    def _single(self) -> list[Running]:
        """What is in flight in one worker only, and was in none that died."""
        return [
            Running(index, worker)
            for worker, held in self._in_flight.items()
            if not self._quarantine.isolates(worker)
            for index in held
            if index not in self._doubles and not self.deaths_of(index)
        ]

    def _without_copies(self, worker: int, lost: list[int]) -> list[int]:
        """What a dead worker had and no other has; a request whose other copy still runs is not lost."""
        if self._copies is None:
            return lost
        self._copies.lose(worker)
        self._doubles.lose(worker)
        kept = [index for index in lost if self._doubles.drop(worker, index)]
        self._quarantine.witness(kept)
        return [index for index in lost if index not in kept]
