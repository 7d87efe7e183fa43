"""How long a run will take: the simulator on a small likeness of the run, in well under a second."""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from trt_dp.coordinator.order.choose import Known, choose
from trt_dp.simulate.bounds import bound, full_batches
from trt_dp.simulate.engine import EngineShape
from trt_dp.simulate.shapes import Lengths, workload
from trt_dp.simulate.step_models import Linear
from trt_dp.simulate.study import simulate
from trt_dp.simulate.world import Clock, Setting

ORDERS = ("file", "longest", "auto")

_LIKENESS, _DEPTH = 2500, 20
_FEWEST_SLOTS = 4


class Forecast(Struct, frozen=True):
    """The seconds that so many workers will take in each order, and the least that any order could."""

    workers: int
    seconds: dict[str, float]
    bound: float


def forecast(lengths: Lengths, model: Linear, slots: int, workers: int) -> Forecast:
    """Simulate every k-th request on engines with a k-th of the slots, whose steps take as long as the real ones."""
    shrink = max(1, min(len(lengths) // _LIKENESS, slots // _FEWEST_SLOTS))
    few = max(1, round(slots / shrink))
    # a k-th of the work on a k-th of the slots takes as long, if a full batch does
    likeness = Linear(model.overhead, model.per_sequence * slots / few)
    every = np.sort(lengths)[shrink // 2 :: shrink]
    mixed = np.random.default_rng(0).permutation(every)
    outputs = mixed[: max(_LIKENESS, _DEPTH * few * workers)]
    shapes = (EngineShape(model=likeness, slots=few),) * workers
    # in a deep queue more requests of the same kind only add full batches before the end
    more = full_batches(workload(mixed[len(outputs) :]), shapes) if len(mixed) > len(outputs) else 0
    seconds = {name: more + _seconds(outputs, shapes, name) for name in ORDERS}
    return Forecast(workers, seconds, bound(workload(mixed), shapes))


def _seconds(outputs: Lengths, shapes: tuple[EngineShape, ...], name: str) -> float:
    work, clock = workload(outputs), Clock()
    known = Known(
        pending=np.arange(len(work)),
        prompts=work.prompts,
        limits=work.limits,
        exact=True,
        earlier=None,
        clock=clock,
    )
    return simulate(work, Setting(shapes=shapes), choose(name, known).order, clock).seconds
