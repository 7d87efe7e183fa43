"""Workers over time, in intervals of equal length (pure)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trt_dp.report.columns import (
    Columns,
    Floats,
    StateChange,
    Wasted,
    by_worker,
    states_by_worker,
)
from trt_dp.report.flow import amounts, occupancy
from trt_dp.report.sections import Lane, Span, Timeline

_MOST_VALUES = 48_000
_MOST_INTERVALS, _LEAST_INTERVALS = 240, 60
_MOST_SPANS = 100
_DIGITS = 4


def intervals(workers: int) -> int:
    """How many intervals a timeline has: fewer with many workers, so that a page stays small."""
    return max(_LEAST_INTERVALS, min(_MOST_INTERVALS, _MOST_VALUES // max(1, workers)))


def timeline(
    columns: Columns, wasted: Wasted, states: Sequence[StateChange], edges: Floats, began: float
) -> Timeline:
    """What each worker did between these edges; times are counted from `began`."""
    step = float(edges[1] - edges[0])
    workers = 1 + max(change.worker for change in states)
    parts = zip(by_worker(columns, workers), states_by_worker(states, workers), strict=True)
    completed, _ = np.histogram(columns.answered_at, edges)
    return Timeline(
        start_seconds=_rounded(edges[0] - began),
        interval_seconds=step,
        lanes=[
            _lane(worker, mine, wasted, changes, (edges, began))
            for worker, (mine, changes) in enumerate(parts)
        ],
        completed_per_second=_short(completed / step),
        pending=_pending(columns, edges),
    )


def _lane(
    worker: int,
    columns: Columns,
    wasted: Wasted,
    states: Sequence[StateChange],
    time: tuple[Floats, float],
) -> Lane:
    edges, began = time
    lost = wasted.worker == worker
    tokens = columns.output_tokens.astype(np.float64)
    start, end = columns.made_from, columns.answered_at
    running = occupancy(columns.began, end, edges)
    running += occupancy(wasted.sent_at[lost], wasted.lost_at[lost], edges)
    step = np.diff(edges)
    return Lane(
        worker=worker,
        states=_spans(states, edges, began),
        tokens_per_second=_short(amounts(start, end, tokens, edges) / step),
        running=_short(running / step),
    )


def _spans(changes: Sequence[StateChange], edges: Floats, began: float) -> list[Span]:
    """The states between the edges; of many deaths the first are shown one by one."""
    ends = [change.at_seconds for change in changes[1:]] + [float(edges[-1])]
    return [
        Span(
            change.state,
            _rounded(max(change.at_seconds, edges[0]) - began),
            _rounded(min(end, edges[-1]) - began),
        )
        for change, end in zip(changes, ends, strict=True)
        if end > edges[0] and change.at_seconds < edges[-1] and end > change.at_seconds
    ][:_MOST_SPANS]


def _pending(columns: Columns, edges: Floats) -> list[int]:
    """How many of the requests that were completed had not been sent yet at the end of each interval."""
    sent = np.sort(columns.sent_at)
    pending: list[int] = (len(sent) - np.searchsorted(sent, edges[1:], side="right")).tolist()
    return pending


def _short(values: Floats) -> list[float]:
    """Four digits say as much as a picture can show."""
    return [float(f"{value:.{_DIGITS}g}") + 0.0 for value in np.maximum(values, 0.0)]


def _rounded(seconds: float) -> float:
    return round(float(seconds), 4)
