"""How values are distributed, in few intervals that show the tail (pure)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from trt_dp.report.parts import Values, extent
from trt_dp.report.sections import Histogram

_INTERVALS = 48
_WIDE = 50.0


def histogram(parts: Iterable[Values], unit: str, *, whole: bool = False) -> Histogram:
    """Counts between edges that are evenly spaced, or evenly on a logarithmic scale where values differ widely."""
    found = extent(parts)
    if not found.count:
        return Histogram(unit=unit, edges=[], counts=[])
    edges = _edges(found.least, found.largest, whole=whole)
    counts = sum((np.histogram(values, edges)[0] for values in parts), np.zeros(1, np.int64))
    return Histogram(
        unit=unit,
        edges=[float(f"{edge:.6g}") for edge in edges],
        counts=counts.tolist(),
    )


def _edges(low: float, high: float, *, whole: bool) -> NDArray[np.float64]:
    if low == high:
        return np.array([low, low + 1.0])
    if low > 0 and high / low > _WIDE:
        edges = np.geomspace(low, high, _INTERVALS + 1)
    else:
        edges = np.linspace(low, high, _INTERVALS + 1)
    if whole:
        edges = np.unique(np.floor(edges))
    edges[0], edges[-1] = low, high
    return edges
