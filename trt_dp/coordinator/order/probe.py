"""The first requests of a run, from which the step times are learnt."""

from __future__ import annotations

import math

import numpy as np

from trt_dp.coordinator.order.contract import Answered, Asking, Indices
from trt_dp.coordinator.order.guess import Floats

_DEPTH, _LEAST, _SHARE, _PART = 4, 64, 100, 32
_LONGEST = 0.5


class Probe:
    """The first requests: they show how long steps take, while the long ones wait for what they show.

    Where there are few requests for each slot, every second counts for the long ones; where the longest does not
    take half as long as all, none must be fast. Then nothing is tried.
    """

    def __init__(self, lengths: Floats, slots: int) -> None:
        pending = len(lengths)
        half = pending // 2
        self._wanted = max(_LEAST, pending // _SHARE)
        count = min(half, slots + 2 * self._wanted)
        step = next(n for n in range(int(half * 0.618) | 1, half + 3, 2) if math.gcd(n, half) == 1)
        self._places = (np.arange(count) * step) % max(1, half)
        self._next = 0
        self._answers: dict[int, int] = {}
        longest = float(lengths[-1]) if pending else 0.0
        uneven = longest * slots > _LONGEST * float(lengths.sum())
        self.over = pending < _DEPTH * slots or not uneven

    def cap(self, asking: Asking) -> int:
        """How many this worker should have in flight."""
        some = self._answers.get(asking.worker, 0) * _PART >= asking.limit
        return max(1, asking.limit // (2 if some else 4))

    def next(self, room: int) -> Indices:
        """The places of the next ones, by length."""
        places = self._places[self._next : self._next + room]
        self._next += len(places)
        return places

    def count(self, answered: Answered) -> None:
        """The probe is over once there are enough answers, from every worker that has any."""
        worker = answered.worker
        self._answers[worker] = self._answers.get(worker, 0) + len(answered.indices)
        enough = sum(self._answers.values()) >= self._wanted
        self.over = self.over or enough or self._next == len(self._places)
