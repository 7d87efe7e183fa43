"""Longest first, in shares that follow each worker's speed."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from trt_dp.coordinator.order.contract import (
    NOTHING,
    Answered,
    Asking,
    Clock,
    Indices,
    as_they_came,
)
from trt_dp.coordinator.order.guess import Guess

_MEMORY_SECONDS = 60.0


class Longest:
    """The longest requests leave first; the first fill is dealt evenly, so that no worker gets all of the longest.

    Near the end a worker may have as many in flight as its share of the tokens per second that came so far, and a
    worker that is slow gets none of the longest.
    """

    def __init__(self, indices: Indices, guess: Guess, clock: Clock) -> None:
        lengths = guess.medians(indices)
        falling = np.argsort(-lengths, kind="stable")
        self._indices = indices[falling]
        self._next = 0
        self._lengths = guess
        self._clock = clock
        self._dealt: dict[int, Indices] = {}
        self._speeds = _Speeds(clock)

    def __len__(self) -> int:
        """How many are left."""
        return len(self._indices) - self._next + sum(map(len, self._dealt.values()))

    def take(self, asking: Asking) -> Indices:
        """The longest, up to the worker's limit and its share."""
        if self._next == 0 and not self._dealt:
            self._deal(asking)
        share = max(1, int(np.ceil(asking.unfinished * self._speeds.share(asking))))
        room = min(asking.limit, share) - asking.in_flight
        if room <= 0:
            return NOTHING
        hand = self._dealt.pop(asking.worker, None)
        if hand is not None:
            return self._from_hand(asking.worker, hand, room)
        taken = self._indices[self._next : self._next + room]
        self._next += len(taken)
        return taken if len(taken) else self._from_others(room)

    def again(self, asking: Asking, waiting: Indices) -> Indices:
        """What came back goes first."""
        return as_they_came(asking, waiting)

    def learn(self, answered: Answered) -> None:
        """Tokens per second of a worker."""
        self._speeds.add(answered.worker, int(answered.tokens.sum()))

    def forget(self, worker: int, indices: Iterable[int]) -> None:
        """Nothing is known of what is in flight."""

    def lose(self, worker: int, indices: Iterable[int]) -> list[int]:
        """The longest suspects are tried first."""
        self._speeds.lose(worker)
        suspects = np.array(sorted(indices), np.int64)
        falling = np.argsort(-self._lengths.medians(suspects), kind="stable")
        ranked: list[int] = suspects[falling].tolist()
        return ranked

    def _deal(self, asking: Asking) -> None:
        """Set the first fill of every worker aside, so that each gets as many of the longest as the others."""
        workers = max(1, asking.workers)
        first = self._indices[: min(len(self._indices), workers * asking.limit)]
        self._next = len(first)
        self._dealt = {worker: first[worker::workers] for worker in range(workers)}
        self._dealt = {worker: hand for worker, hand in self._dealt.items() if len(hand)}

    def _from_hand(self, worker: int, hand: Indices, room: int) -> Indices:
        if len(hand) > room:
            self._dealt[worker] = hand[room:]
        return hand[:room]

    def _from_others(self, room: int) -> Indices:
        """What was set aside for a worker that is not there."""
        if not self._dealt:
            return NOTHING
        worker = next(iter(self._dealt))
        return self._from_hand(worker, self._dealt.pop(worker), room)


class _Speeds:
    """Tokens per second of each worker, over about the last minute."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[int, tuple[float, float, float]] = {}

    def add(self, worker: int, tokens: int) -> None:
        """So many tokens came."""
        now = self._clock()
        since, seconds, before = self._known.get(worker, (now, 0.0, 0.0))
        passed = now - since
        kept = _MEMORY_SECONDS / (_MEMORY_SECONDS + passed)
        self._known[worker] = (now, seconds * kept + passed, before * kept + tokens)

    def lose(self, worker: int) -> None:
        """Forget a worker."""
        self._known.pop(worker, None)

    def share(self, asking: Asking) -> float:
        """This worker's part of all speed; an equal one until all are known."""
        speeds = {w: n / s for w, (_, s, n) in self._known.items() if s > 0 and n > 0}
        if len(speeds) < asking.workers or asking.worker not in speeds:
            return 1 / max(1, asking.workers)
        return speeds[asking.worker] / sum(speeds.values())
