"""How values are distributed: mean, extremes, percentiles (pure)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct

PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)


class Spread(Struct, frozen=True, kw_only=True):
    """Percentiles are interpolated linearly between neighbours; `stdev` is that of all values, not of a sample."""

    count: int
    mean: float
    minimum: float
    maximum: float
    stdev: float
    p1: float
    p5: float
    p10: float
    p25: float
    p50: float
    p75: float
    p90: float
    p95: float
    p99: float


def spread(values: Sequence[float], scale: float = 1.0) -> Spread | None:
    """The distribution of values, each times `scale`; None where there are none."""
    if not values:
        return None
    found = np.asarray(values, np.float64) * scale
    at = np.percentile(found, PERCENTILES)
    named = {f"p{p}": float(value) for p, value in zip(PERCENTILES, at, strict=True)}
    return Spread(
        count=len(found),
        mean=float(found.mean()),
        minimum=float(found.min()),
        maximum=float(found.max()),
        stdev=float(found.std()),
        **named,
    )
