"""How long the rest of a run takes: by tokens, and by the order in which requests leave (pure)."""

from __future__ import annotations

import heapq

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from trt_dp.coordinator.order.contract import Indices, Order
from trt_dp.coordinator.order.even import EvenOrder
from trt_dp.coordinator.order.file import FileOrder
from trt_dp.coordinator.order.lanes import Lanes

Floats = NDArray[np.float64]

_LIKENESS = 2000
_LEAST_SHARE = 0.02
_EMPTY = 0.6  # of the time of a full step; engines are between 0.5 and 0.9
_TOGETHER_LOSS = 1.03  # of a run whose workers end together: the last batches are small


class Progress(Struct, frozen=True, kw_only=True):
    """How far a run is: of each request when it was sent (0: not yet) and whether it is completed; what came of it.

    `tokens` and `wanted` are those of the answers so far, as they came and as they were asked for, and
    `token_seconds` the sum of the seconds that these answers were in engines.
    """

    now: float
    began: float
    sent_at: Floats
    completed: NDArray[np.bool_]
    tokens: int
    wanted: int
    token_seconds: float


class Remaining:
    """Requests leave in a known order; what is left is dealt to as many places as are busy now."""

    def __init__(self, order: Order, pending: Indices, lengths: NDArray[np.integer]) -> None:
        self._lengths = np.maximum(1.0, lengths.astype(np.float64))
        self._together = isinstance(order, Lanes)
        in_file = isinstance(order, FileOrder | EvenOrder)
        falling = np.argsort(-self._lengths[pending], kind="stable")
        self._sequence = pending if in_file else pending[falling]
        self._total = float(self._lengths[pending].sum())

    def seconds(self, at: Progress) -> float | None:
        """How long the rest takes; None while too little is known."""
        if at.wanted < _LEAST_SHARE * self._total or at.token_seconds <= 0 or at.now <= at.began:
            return None
        pace, scale = at.token_seconds / at.tokens, at.tokens / at.wanted
        sequence = self._sequence[~at.completed[self._sequence]]
        sent = at.sent_at[sequence] > 0
        pending, running = scale * self._lengths[sequence[~sent]], sequence[sent]
        lengths, ages = scale * self._lengths[running], at.now - at.sent_at[running]
        done = np.minimum(lengths, ages / pace)
        rate = (at.tokens + float(done.sum())) / (at.now - at.began)
        rests = lengths - done
        if self._together:
            work = float(rests.sum() + pending.sum()) / rate
            return max(work * _TOGETHER_LOSS, float(rests.max(initial=0.0)) * pace * _EMPTY)
        return _dealt(rests, pending, max(1.0, rate * pace)) * pace


def _dealt(rests: Floats, pending: Floats, places: float) -> float:
    """Steps until all is done, if each request begins when a place is free.

    Of many requests every k-th is dealt to a k-th of the places.
    """
    step = max(1, (len(rests) + len(pending)) // _LIKENESS)
    count = max(1, round(places / step))
    rests = np.sort(rests)[::-1][step // 2 :: step]
    ends = [0.0] * max(0, count - len(rests)) + rests[:count].tolist()
    heapq.heapify(ends)
    last = 0.0
    for length in [*rests[count:].tolist(), *pending[step // 2 :: step].tolist()]:
        last = ends[0]
        heapq.heapreplace(ends, last + length)
    left = np.sort(np.array(ends)) - last
    batches = np.arange(len(left), 0, -1) / len(left)
    gaps = np.diff(np.maximum(0.0, left), prepend=0.0)
    return last + float((gaps * (_EMPTY + (1 - _EMPTY) * batches)).sum())
