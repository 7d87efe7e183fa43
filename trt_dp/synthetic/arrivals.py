"""When requests arrive: times drawn for a rate, the same for a seed on every machine."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from trt_dp.errors import UsageError
from trt_dp.synthetic.batch import Batch
from trt_dp.synthetic.portable_math import Reals, exp, log, normal
from trt_dp.synthetic.streams import ARRIVALS, draw, unit

KINDS = ("poisson", "gamma")
_RATES = (0.001, 1e6)
_BURSTINESSES = (0.01, 1000.0)


class Arrivals(Struct, frozen=True):
    """Requests per second on average; with gamma, a burstiness below 1 makes bursts, above 1 an even flow."""

    rate: float
    kind: str = "poisson"
    burstiness: float = 1.0


def check_arrivals(asked: Arrivals) -> None:
    """Refuse what is no rate, no distribution or no burstiness."""
    if asked.kind not in KINDS:
        msg = f"--arrival {asked.kind} is not known: there are {' and '.join(KINDS)}"
        raise UsageError(msg)
    _check_range("--request-rate", asked.rate, _RATES)
    _check_range("--burstiness", asked.burstiness, _BURSTINESSES)
    if asked.kind == "poisson" and asked.burstiness != 1.0:
        msg = "--burstiness goes with --arrival gamma: Poisson arrivals have a burstiness of 1"
        raise UsageError(msg)


def _check_range(option: str, value: float, bounds: tuple[float, float]) -> None:
    low, high = bounds
    if not low <= value <= high:
        msg = f"{option} is {value:g}: it must be from {low:g} to {high:,.0f}"
        raise UsageError(msg)


def with_arrivals(found: Iterable[Batch], asked: Arrivals, seed: int) -> Iterator[Batch]:
    """The batches with arrival times; the first request arrives at 0, and the times do not depend on the batches."""
    last = 0.0
    for batch in found:
        gaps = _gaps(asked, seed, batch.first, len(batch.inputs))
        times = np.cumsum(np.concatenate(([last], gaps)))[1:]
        last = float(times[-1])
        yield msgspec.structs.replace(batch, arrivals=np.rint(times * 1e6).astype(np.int64))


def _gaps(asked: Arrivals, seed: int, first: int, count: int) -> Reals:
    """Seconds between each request and the one before it; none before the first."""
    if asked.kind == "gamma":
        gaps = _gamma(asked.burstiness, seed, first, count) / (asked.rate * asked.burstiness)
    else:
        gaps = -log(unit(draw(seed, ARRIVALS, count, first))) / asked.rate
    if first == 0:
        gaps[0] = 0.0
    return gaps


def _gamma(shape: float, seed: int, first: int, count: int) -> Reals:
    """Gamma numbers of scale 1, by Marsaglia and Tsang (2000); a shape below 1 comes from the shape above it."""
    if shape < 1.0:
        power = log(unit(draw(seed, ARRIVALS, count, first))) / shape
        return exp(power) * _gamma(shape + 1.0, seed, first, count)
    found, left, stream = np.zeros(count), np.arange(count), ARRIVALS + 1
    while len(left):
        normals = normal(unit(draw(seed, stream, count, first)[left]))
        units = unit(draw(seed, stream + 1, count, first)[left])
        drawn, accepted = _attempt(shape, normals, units)
        found[left[accepted]] = drawn[accepted]
        left, stream = left[~accepted], stream + 2
    return found


def _attempt(shape: float, normals: Reals, units: Reals) -> tuple[Reals, NDArray[np.bool_]]:
    """One attempt for each pair of numbers, and which of them are accepted."""
    most = shape - 1.0 / 3.0
    root = 1.0 + normals / math.sqrt(9.0 * most)
    cube = np.where(root > 0.0, root * root * root, 1.0)
    bound = 0.5 * normals * normals + most * (1.0 - cube + log(cube))
    return most * cube, (root > 0.0) & (log(units) < bound)
