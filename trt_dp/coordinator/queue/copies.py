"""Which of the last requests an idle worker should try as well. Pure: the clock is passed in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from trt_dp.coordinator.order.choose import Known
from trt_dp.coordinator.order.contract import Answered, Clock, Indices

Floats = NDArray[np.float64]

_MEMORY_TOKENS = 20_000.0
_PAUSE_SECONDS = 0.1
_MARGIN = 1.1


class Running(Struct, frozen=True):
    """A request in flight, and who has it."""

    index: int
    worker: int


class _Pace:
    """Tokens and the seconds they took, the latest counting most."""

    def __init__(self) -> None:
        self.tokens = self.seconds = 0.0

    def add(self, tokens: float, seconds: float) -> None:
        kept = _MEMORY_TOKENS / (_MEMORY_TOKENS + tokens)
        self.tokens = self.tokens * kept + tokens
        self.seconds = self.seconds * kept + seconds


class Copies:
    """A request is worth a copy where that will probably end first, judged by the seconds per token of each worker.

    A request that should have ended long ago shows that its worker has become slow. Unless lengths are `exact`, a
    request is taken to have as much to do as it has done, and to be of average length if it has just begun.
    """

    def __init__(self, clock: Clock, lengths: NDArray[np.integer[Any]], *, exact: bool) -> None:
        self._clock = clock
        self._lengths = lengths
        self._exact = exact
        self._sent: dict[int, float] = {}
        self._paces: dict[int, _Pace] = {}
        self._answers = self._answered_tokens = 0
        self._next_look: dict[int, float] = {}

    def sent(self, indices: Iterable[int]) -> None:
        """These were sent to their first worker now."""
        self._sent.update(dict.fromkeys(indices, self._clock()))

    def learn(self, answered: Answered) -> None:
        """How fast a worker is, and how long answers are."""
        useful = (answered.tokens > 0) & np.isfinite(answered.seconds) & (answered.seconds > 0)
        tokens = float(answered.tokens[useful].sum())
        self._answers += int(useful.sum())
        self._answered_tokens += int(tokens)
        pace = self._paces.setdefault(answered.worker, _Pace())
        pace.add(tokens, float(answered.seconds[useful].sum()))
        for index in answered.indices.tolist():
            self._sent.pop(index, None)

    def lose(self, worker: int) -> None:
        """The worker died: its successor may be faster or slower."""
        self._paces.pop(worker, None)

    def is_due(self, worker: int) -> bool:
        """Whether to look for this worker, which is idle: not too often."""
        now = self._clock()
        if now < self._next_look.get(worker, 0.0):
            return False
        self._next_look[worker] = now + _PAUSE_SECONDS
        return True

    def choose(self, worker: int, running: Sequence[Running]) -> list[Running]:
        """Those that this worker would probably end before the worker that has them, the most urgent first."""
        now, mine = self._clock(), self._seconds_per_token(worker)
        if not mine or not running:
            return []
        left, whole = self._reckon(running, now)
        gains = left - whole * mine * _MARGIN
        urgent = np.argsort(-left, kind="stable")
        return [running[place] for place in urgent.tolist() if gains[place] > 0]

    def _seconds_per_token(self, worker: int) -> float:
        """Of this worker; of all together, where it has answered nothing yet."""
        pace = self._paces.get(worker)
        if pace and pace.tokens:
            return pace.seconds / pace.tokens
        tokens = sum(one.tokens for one in self._paces.values())
        return sum(one.seconds for one in self._paces.values()) / tokens if tokens else 0.0

    def _reckon(self, running: Sequence[Running], now: float) -> tuple[Floats, Floats]:
        """The seconds that each still takes where it is, and its whole length in tokens."""
        indices = np.array([one.index for one in running])
        ages = np.array([now - self._sent.get(one.index, now) for one in running])
        paces = np.array([self._seconds_per_token(one.worker) for one in running])
        whole = self._whole(indices, ages / paces)
        late = np.maximum(0.0, ages - whole * paces)
        paces = np.maximum(paces, self._slowed(running, ages / whole))
        return np.maximum(whole * paces - ages, late), whole

    def _whole(self, indices: Indices, done: Floats) -> Floats:
        most = np.maximum(1.0, self._lengths[indices].astype(np.float64))
        if self._exact:
            return most
        guessed = np.maximum(2 * done, self._answered_tokens / max(1, self._answers))
        return np.minimum(most, guessed)

    def _slowed(self, running: Sequence[Running], least: Floats) -> Floats:
        """Seconds per token of each worker, as the one of its requests that is latest shows them to be at least."""
        workers = np.array([one.worker for one in running])
        slowest = np.zeros(int(workers.max()) + 1)
        np.maximum.at(slowest, workers, least)
        least_of_all: Floats = slowest[workers]
        return least_of_all


def copies_of(known: Known) -> Copies:
    """By what is known of the lengths of answers."""
    return Copies(known.clock, known.limits, exact=known.exact)
