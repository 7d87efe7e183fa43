"""How long a run will take: the simulator on a small likeness of the run, in well under a second."""

from __future__ import annotations

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from trt_dp.coordinator.order.choose import Known, choose
from trt_dp.simulate.bounds import bound, full_batches
from trt_dp.simulate.calibrate import Calibration
from trt_dp.simulate.engine import EngineShape
from trt_dp.simulate.needs import Needs
from trt_dp.simulate.shapes import Lengths, Workload, workload
from trt_dp.simulate.step_models import Linear
from trt_dp.simulate.study import simulate
from trt_dp.simulate.world import Clock, Setting

ORDERS = ("file", "longest", "auto")

_LIKENESS, _DEPTH = 2500, 20
_FEWEST_SLOTS = 4
_BUDGET, _LEAST_BUDGET = 8192, 64


class Calibrated(Struct, frozen=True, kw_only=True):
    """An engine as far as its speed goes; `devices` are GPUs of one worker."""

    name: str
    model: Linear
    slots: int
    devices: int = 0

    @staticmethod
    def of(name: str, found: Calibration) -> Calibrated:
        """As it was measured."""
        return Calibrated(name=name, model=found.model, slots=found.slots, devices=found.devices)


class Forecast(Struct, frozen=True):
    """The seconds that so many workers will take in each order, and the least that any order could."""

    workers: int
    seconds: dict[str, float]
    bound: float


def forecast(needs: Needs, engine: Calibrated, workers: int) -> Forecast:
    """Simulate every k-th request on engines with a k-th of the slots, whose steps take as long as the real ones."""
    count = len(needs.outputs)
    shrink = max(1, min(count // _LIKENESS, engine.slots // _FEWEST_SLOTS))
    shape = _likeness(engine, max(1, round(engine.slots / shrink)))
    # a k-th of the work on a k-th of the slots takes as long, if a full batch does
    every = np.argsort(needs.outputs, kind="stable")[shrink // 2 :: shrink]
    mixed = np.random.default_rng(0).permutation(every)
    some = mixed[: max(_LIKENESS, _DEPTH * shape.slots * workers)]
    shapes, rest = (shape,) * workers, mixed[len(some) :]
    # in a deep queue more requests of the same kind only add full batches before the end
    more = full_batches(_work(needs, rest), shapes) if len(rest) else 0
    seconds = {name: more + _seconds(_work(needs, some), shapes, name) for name in ORDERS}
    return Forecast(workers, seconds, bound(_work(needs, mixed), shapes))


def _likeness(engine: Calibrated, slots: int) -> EngineShape:
    """An engine with fewer slots, each of which takes as much longer."""
    shrink, model = engine.slots / slots, engine.model
    return EngineShape(
        model=Linear(
            model.overhead,
            model.per_sequence * shrink,
            model.per_prefill_token * shrink,
            model.per_kv_token * shrink,
        ),
        slots=slots,
        prefills=model.per_prefill_token > 0,
        token_budget=max(_LEAST_BUDGET, slots + 1, round(_BUDGET / shrink)),
    )


def _work(needs: Needs, chosen: Lengths) -> Workload:
    return replace(workload(needs.outputs[chosen]), prompts=needs.prompts[chosen])


def _seconds(work: Workload, shapes: tuple[EngineShape, ...], name: str) -> float:
    clock = Clock()
    known = Known(
        pending=np.arange(len(work)),
        prompts=work.prompts,
        limits=work.limits,
        exact=True,
        earlier=None,
        clock=clock,
    )
    return simulate(work, Setting(shapes=shapes), choose(name, known).order, clock).seconds
