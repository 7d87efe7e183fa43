"""How values are distributed, in few intervals that show the tail (pure)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trt_dp.report.sections import Histogram

_INTERVALS = 48
_WIDE = 50.0


def histogram(values: NDArray[np.floating] | NDArray[np.integer], unit: str) -> Histogram:
    """Counts between edges that are evenly spaced, or evenly on a logarithmic scale where values differ widely."""
    if not len(values):
        return Histogram(unit=unit, edges=[], counts=[])
    counts, edges = np.histogram(values, _edges(values))
    return Histogram(
        unit=unit,
        edges=[float(f"{edge:.6g}") for edge in edges],
        counts=counts.tolist(),
    )


def _edges(values: NDArray[np.floating] | NDArray[np.integer]) -> NDArray[np.float64]:
    low, high = float(values.min()), float(values.max())
    if low == high:
        return np.array([low, low + 1.0])
    if low > 0 and high / low > _WIDE:
        edges = np.geomspace(low, high, _INTERVALS + 1)
    else:
        edges = np.linspace(low, high, _INTERVALS + 1)
    if np.issubdtype(values.dtype, np.integer):
        edges = np.unique(np.floor(edges))
    edges[0], edges[-1] = low, high
    return edges
