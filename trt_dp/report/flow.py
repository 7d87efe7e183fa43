"""How much happened between moments: spreads amounts evenly over intervals and adds them up exactly."""

from __future__ import annotations

import numpy as np

from trt_dp.report.columns import Floats

_LEAST_SECONDS = 1e-6


def amounts(starts: Floats, ends: Floats, weights: Floats, edges: Floats) -> Floats:
    """What falls between neighbouring edges if each weight is spread evenly from its start to its end."""
    return np.diff(_up_to(starts, ends, weights, edges))


def occupancy(starts: Floats, ends: Floats, edges: Floats) -> Floats:
    """The seconds that all intervals together spend between neighbouring edges."""
    return amounts(starts, ends, np.maximum(ends - starts, _LEAST_SECONDS), edges)


def _up_to(starts: Floats, ends: Floats, weights: Floats, edges: Floats) -> Floats:
    """The amount up to each edge: what began counts from its start, what ended stops counting."""
    if not len(starts):
        return np.zeros(len(edges))
    zero = float(starts.min())  # small numbers keep their digits
    starts, edges = starts - zero, edges - zero
    ends = np.maximum(ends - zero, starts + _LEAST_SECONDS)
    rates = weights / (ends - starts)
    return _ramps(starts, rates, edges) - _ramps(ends, rates, edges)


def _ramps(moments: Floats, rates: Floats, edges: Floats) -> Floats:
    """The sum of rate x (edge - moment) over all moments before each edge."""
    order = np.argsort(moments, kind="stable")
    passed = np.searchsorted(moments[order], edges, side="right")
    rate = np.concatenate(([0.0], np.cumsum(rates[order])))
    offset = np.concatenate(([0.0], np.cumsum(rates[order] * moments[order])))
    total: Floats = rate[passed] * edges - offset[passed]
    return total
