"""Workers over time, in intervals of equal length (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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


class _Flows:
    """What went through each worker in each interval, added up part by part."""

    def __init__(self, parts: Iterable[Columns], workers: int, edges: Floats) -> None:
        shape = (workers, len(edges) - 1)
        self.tokens, self.running = np.zeros(shape), np.zeros(shape)
        self.completed = np.zeros(shape[1], np.int64)
        self.pending = np.zeros(
            shape[1], np.int64
        )  # of what was completed, not sent yet at its end
        for part in parts:
            self._add(part, edges)

    def _add(self, part: Columns, edges: Floats) -> None:
        self.completed += np.histogram(part.answered_at, edges)[0]
        sent = np.sort(part.sent_at)
        self.pending += len(sent) - np.searchsorted(sent, edges[1:], side="right")
        for worker, mine in enumerate(by_worker(part, len(self.tokens))):
            end, tokens = mine.answered_at, mine.output_tokens.astype(np.float64)
            self.tokens[worker] += amounts(mine.made_from, end, tokens, edges)
            self.running[worker] += occupancy(mine.began, end, edges)


def timeline(
    parts: Iterable[Columns],
    wasted: Wasted,
    states: Sequence[StateChange],
    edges: Floats,
    began: float,
) -> Timeline:
    """What each worker did between these edges; times are counted from `began`."""
    step = float(edges[1] - edges[0])
    workers = 1 + max(change.worker for change in states)
    flows = _Flows(parts, workers, edges)
    return Timeline(
        start_seconds=_rounded(edges[0] - began),
        interval_seconds=step,
        lanes=[
            _lane(worker, flows, wasted, changes, (edges, began))
            for worker, changes in enumerate(states_by_worker(states, workers))
        ],
        completed_per_second=_short(flows.completed / step),
        pending=flows.pending.tolist(),
    )


def _lane(
    worker: int,
    flows: _Flows,
    wasted: Wasted,
    states: Sequence[StateChange],
    time: tuple[Floats, float],
) -> Lane:
    edges, began = time
    lost = wasted.worker == worker
    vain = occupancy(wasted.sent_at[lost], wasted.lost_at[lost], edges)
    step = np.diff(edges)
    return Lane(
        worker=worker,
        states=_spans(states, edges, began),
        tokens_per_second=_short(flows.tokens[worker] / step),
        running=_short((flows.running[worker] + vain) / step),
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


def _short(values: Floats) -> list[float]:
    """Four digits say as much as a picture can show."""
    return [float(f"{value:.{_DIGITS}g}") + 0.0 for value in np.maximum(values, 0.0)]


def _rounded(seconds: float) -> float:
    return round(float(seconds), 4)
