"""How long the rest of a run takes: by tokens, and by the order in which requests leave (pure)."""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from trt_dp.coordinator.order.contract import Indices, Order
from trt_dp.coordinator.order.even import EvenOrder
from trt_dp.coordinator.order.file import FileOrder
from trt_dp.coordinator.order.fitting import Fitting
from trt_dp.coordinator.order.runs import Runs

Floats = NDArray[np.float64]

_SAMPLE, _LIKENESS = 20_000, 2000
_LEAST_SHARE = 0.02
_EMPTY = 0.6  # of the time of a full step; engines are between 0.5 and 0.9
_TOGETHER_LOSS = 1.03  # of a run whose workers end together: the last batches are small


class Progress(Struct, frozen=True, kw_only=True):
    """How far a run is: which requests were ever sent, which are in flight and since when, and what came of the others.

    `tokens` and `wanted` are those of the answers so far, as they came and as they were asked for, and
    `token_seconds` the sum of the seconds that these answers were in engines.
    """

    now: float
    began: float
    was_sent: NDArray[np.bool_]
    running: Indices
    running_since: Floats
    tokens: int
    wanted: int
    token_seconds: float


class Remaining:
    """Requests leave in a known order; what is left is dealt to as many places as are busy now.

    Of many requests only every k-th is looked at.
    """

    def __init__(
        self, order: Order, pending: Indices | Runs, lengths: NDArray[np.integer[Any]]
    ) -> None:
        self._lengths = lengths
        self._together = isinstance(order, Fitting)
        self._step = max(1, len(pending) // _SAMPLE)
        self._picked = pending[:: self._step]
        if not isinstance(order, FileOrder | EvenOrder):
            falling = np.argsort(-self._of(self._picked), kind="stable")
            self._picked = self._picked[falling]
        self._total = self._step * float(self._of(self._picked).sum())

    def seconds(self, at: Progress) -> float | None:
        """How long the rest takes; None while too little is known."""
        if at.wanted < _LEAST_SHARE * self._total or at.token_seconds <= 0 or at.now <= at.began:
            return None
        pace, scale = at.token_seconds / at.tokens, at.tokens / at.wanted
        pending = scale * self._of(self._picked[~at.was_sent[self._picked]])
        lengths = scale * self._of(at.running)
        done = np.minimum(lengths, (at.now - at.running_since) / pace)
        rate = (at.tokens + float(done.sum())) / (at.now - at.began)
        rests = lengths - done
        if self._together:
            work = (float(rests.sum()) + self._step * float(pending.sum())) / rate
            return max(work * _TOGETHER_LOSS, float(rests.max(initial=0.0)) * pace * _EMPTY)
        further = max(1, len(pending) // _LIKENESS)
        step = self._step * further
        rests = np.sort(rests)[::-1][step // 2 :: step]
        return _dealt(rests, pending[further // 2 :: further], rate * pace / step) * pace

    def _of(self, indices: Indices) -> Floats:
        """The lengths of these."""
        return np.maximum(1.0, self._lengths[indices].astype(np.float64))


def _dealt(rests: Floats, pending: Floats, places: float) -> float:
    """Steps until all is done, if each request begins when a place is free."""
    count = max(1, round(places))
    ends = [0.0] * max(0, count - len(rests)) + rests[:count].tolist()
    heapq.heapify(ends)
    last = 0.0
    for length in [*rests[count:].tolist(), *pending.tolist()]:
        last = ends[0]
        heapq.heapreplace(ends, last + length)
    left = np.sort(np.array(ends)) - last
    batches = np.arange(len(left), 0, -1) / len(left)
    gaps = np.diff(np.maximum(0.0, left), prepend=0.0)
    return last + float((gaps * (_EMPTY + (1 - _EMPTY) * batches)).sum())
