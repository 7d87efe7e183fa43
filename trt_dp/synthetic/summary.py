"""The lengths in a finished dataset, in numbers and in a few lines of text (pure)."""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from trt_dp.synthetic.batch import Lengths

_BINS = 8
_BAR = 40


class Side(Struct, frozen=True):
    """The lengths on one side: input or output."""

    tokens: int
    shortest: int
    mean: float
    longest: int
    stdev: float
    edges: tuple[int, ...]
    counts: tuple[int, ...]


class Summary(Struct, frozen=True):
    """Both sides of a dataset; there is no correlation where all lengths of a side are the same."""

    requests: int
    inputs: Side
    outputs: Side
    correlation: float | None


def summarise(inputs: Lengths, outputs: Lengths) -> Summary:
    """The summary of all lengths."""
    varied = bool(np.ptp(inputs) and np.ptp(outputs))
    correlation = float(np.corrcoef(inputs, outputs)[0, 1]) if varied else None
    return Summary(
        requests=len(inputs),
        inputs=_side(inputs),
        outputs=_side(outputs),
        correlation=correlation,
    )


def as_text(summary: Summary) -> str:
    """A table of both sides and a histogram of each."""
    rows = [f"{summary.requests:,} requests", _row("input", summary.inputs)]
    rows += [_row("output", summary.outputs), f"correlation of the two: {_correlation(summary)}"]
    for name, side in (("input", summary.inputs), ("output", summary.outputs)):
        rows += [f"{name} lengths", *_histogram(side)]
    return "\n".join(rows)


def _side(lengths: Lengths) -> Side:
    low, high = int(lengths.min()), int(lengths.max())
    width = max(1, -(-(high - low + 1) // _BINS))
    counts = np.bincount((lengths - low) // width)
    edges = tuple(low + width * i for i in range(len(counts)))
    return Side(
        tokens=int(lengths.sum()),
        shortest=low,
        mean=float(lengths.mean()),
        longest=high,
        stdev=float(lengths.std()),
        edges=edges,
        counts=tuple(counts.tolist()),
    )


def _row(name: str, side: Side) -> str:
    return (
        f"{name:<7}{side.tokens:>15,} tokens: min {side.shortest:,}, mean {side.mean:,.2f}, "
        f"max {side.longest:,}, stdev {side.stdev:,.2f}"
    )


def _correlation(summary: Summary) -> str:
    if summary.correlation is None:
        return "none, as one of them does not vary"
    return f"{summary.correlation:+.4f}"


def _histogram(side: Side) -> list[str]:
    most = max(side.counts)
    bars = ("#" * -(-count * _BAR // most) for count in side.counts)
    return [
        f"{edge:>11,} {bar:<{_BAR}} {count:,}"
        for edge, bar, count in zip(side.edges, bars, side.counts, strict=True)
    ]
