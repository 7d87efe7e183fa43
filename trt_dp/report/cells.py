"""Divides the serving time of one worker into cells in which it is in one state, and measures what it did in each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from trt_dp.report.columns import Columns, Floats, StateChange, Wasted, by_worker
from trt_dp.report.flow import amounts, occupancy

_FULL = 0.9
_LASTS = 0.1


class Cells(Struct, frozen=True, kw_only=True):
    """One worker: per cell its seconds, its output tokens, and slot-seconds that decoded, prefilled or were wasted."""

    seconds: Floats
    tokens: Floats
    decoding: Floats
    prefilling: Floats
    wasted: Floats
    ready: NDArray[np.bool_]

    @property
    def running(self) -> Floats:
        """How many requests ran, on average, in each cell."""
        return (self.decoding + self.prefilling + self.wasted) / np.maximum(self.seconds, 1e-12)


def work_of(parts: Iterable[Columns], workers: int, edges: Floats) -> Floats:
    """Tokens, and slot-seconds of decoding and of prefilling, of each worker between neighbouring edges."""
    found = np.zeros((workers, 3, len(edges) - 1))
    for part in parts:
        for worker, mine in enumerate(by_worker(part, workers)):
            found[worker] += _work(mine, edges)
    return found


def _work(columns: Columns, edges: Floats) -> list[Floats]:
    mine = ~columns.failed
    began, first = columns.began[mine], columns.first_token_at[mine]
    end, tokens = columns.answered_at[mine], columns.output_tokens[mine].astype(np.float64)
    return [
        amounts(columns.made_from[mine], end, tokens, edges),
        occupancy(first, end, edges),
        amounts(began, first, first - began, edges),
    ]


def cells_of(
    worker: int, work: Floats, wasted: Wasted, ready: NDArray[np.bool_], edges: Floats
) -> Cells:
    """What this worker, which did this work, did between neighbouring edges."""
    lost = wasted.worker == worker
    tokens, decoding, prefilling = work
    return Cells(
        seconds=np.diff(edges),
        tokens=tokens,
        decoding=decoding,
        prefilling=prefilling,
        wasted=occupancy(wasted.sent_at[lost], wasted.lost_at[lost], edges),
        ready=ready,
    )


def ready_in(mine: Sequence[StateChange], edges: Floats) -> NDArray[np.bool_]:
    """In which cells a worker was ready; every change of its state must be an edge."""
    moments = np.array([change.at_seconds for change in mine])
    ready = np.array([False, *(change.state == "ready" for change in mine)])
    middles = (edges[1:] + edges[:-1]) / 2
    found: NDArray[np.bool_] = ready[np.searchsorted(moments, middles, side="right")]
    return found


def full_speeds(
    workers: Sequence[Cells], pending: NDArray[np.bool_]
) -> tuple[Floats, float, list[NDArray[np.bool_]]]:
    """Tokens per second of each worker while its batch was full, how full that was, and in which cells.

    Where smaller batches were faster for a while with requests pending, their speed counts: it can be kept up.
    A worker whose batch was never even half as full as another's, or that made no token, counts as their median.
    """
    peaks = np.array([_peak(cells) for cells in workers])
    batch = float(peaks.max(initial=0.0))
    full = [
        (cells.running >= _FULL * peak) & cells.ready & (cells.tokens > 0)
        for cells, peak in zip(workers, peaks, strict=True)
    ]
    speeds = np.array(
        [_best_speed(cells, where, pending) for cells, where in zip(workers, full, strict=True)]
    )
    known = (peaks >= batch / 2) & (speeds > 0)
    usual = float(np.median(speeds[known])) if known.any() else 0.0
    return np.where(known, speeds, usual), batch, full


def _best_speed(cells: Cells, full: NDArray[np.bool_], pending: NDArray[np.bool_]) -> float:
    """The speed of full batches, or of smaller ones if these were faster for a tenth of the time."""
    smaller = cells.ready & pending & ~full & (cells.decoding > 0)
    lasted, ready = cells.seconds[smaller].sum(), cells.seconds[cells.ready].sum()
    if lasted < _LASTS * ready:
        return _speed(cells, full)
    return max(_speed(cells, full), _speed(cells, smaller))


def _peak(cells: Cells) -> float:
    """The fullest batch that lasted: for a tenth of the time in which the worker had requests."""
    running, seconds = cells.running, np.where(cells.running > 0, cells.seconds, 0.0)
    order = np.argsort(running)[::-1]
    lasted = np.cumsum(seconds[order])
    if not len(lasted) or not lasted[-1]:
        return 0.0
    return float(running[order][np.searchsorted(lasted, _LASTS * lasted[-1])])


def _speed(cells: Cells, full: NDArray[np.bool_]) -> float:
    """Tokens per second in these cells, had every slot decoded that prefilled or worked in vain."""
    slots = cells.decoding + cells.prefilling + cells.wasted
    scale = slots[full] / np.maximum(cells.decoding[full], 1e-12)
    seconds = float(cells.seconds[full].sum())
    return float((cells.tokens[full] * scale).sum()) / seconds if seconds else 0.0
