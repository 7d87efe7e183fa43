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
from trt_dp.simulate.world import Clock, Setting, Simulated

ORDERS = ("file", "longest", "auto")

_LIKENESS, _DEPTH = 2500, 20
_FEWEST_SLOTS = 4
_BUDGET = 512


class Calibrated(Struct, frozen=True, kw_only=True):
    """An engine as far as its speed goes; `devices` are GPUs of one worker."""

    name: str
    model: Linear
    slots: int
    devices: int = 0
    ahead: int = 0
    reads_alone: bool = False

    @staticmethod
    def of(name: str, found: Calibration) -> Calibrated:
        """As it was measured."""
        return Calibrated(
            name=name,
            model=found.model,
            slots=found.slots,
            devices=found.devices,
            ahead=found.ahead,
            reads_alone=found.reads_alone,
        )


class Forecast(Struct, frozen=True):
    """The seconds that so many workers will take in each order, and the least that any order could."""

    workers: int
    seconds: dict[str, float]
    bound: float


class Likeness(Struct, frozen=True):
    """A small likeness of a run: every k-th request by length, in the order of the file, for a k-th of the slots."""

    needs: Needs
    shrink: int
    every: Lengths
    mixed: Lengths

    @staticmethod
    def of(needs: Needs, engine: Calibrated) -> Likeness:
        """Of these requests on this engine, for any number of workers."""
        shrink = max(1, min(len(needs.outputs) // _LIKENESS, engine.slots // _FEWEST_SLOTS))
        every = np.sort(np.argsort(needs.outputs, kind="stable")[shrink // 2 :: shrink])
        return Likeness(needs, shrink, every, np.random.default_rng(0).permutation(every))


def forecast(likeness: Likeness, engine: Calibrated, workers: int) -> Forecast:
    """Simulate every k-th request on engines with a k-th of the slots, whose steps take as long as the real ones."""
    shape = _likeness(engine, max(1, round(engine.slots / likeness.shrink)))
    # a k-th of the work on a k-th of the slots takes as long, if a full batch does
    count, shapes = max(_LIKENESS, _DEPTH * shape.slots * workers), (shape,) * workers
    seconds = {name: _in_order(likeness, count, shapes, name) for name in ORDERS}
    return Forecast(workers, seconds, bound(_work(likeness.needs, likeness.every), shapes))


def _in_order(likeness: Likeness, count: int, shapes: tuple[EngineShape, ...], name: str) -> float:
    """In a deep queue more requests of the same kind only add full batches before the end."""
    if name == "file":
        rest, some = likeness.every[:-count], likeness.every[-count:]
    else:
        some, rest = likeness.mixed[:count], likeness.mixed[count:]
    more = full_batches(_work(likeness.needs, rest), shapes) if len(rest) else 0
    work = _work(likeness.needs, np.sort(some))
    return more + with_exact_lengths(work, Setting(shapes=shapes), name).seconds


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
        lookahead=round(engine.ahead / shrink),
        prefills=model.per_prefill_token > 0,
        prefills_alone=engine.reads_alone,
        token_budget=max(slots + 1, round(_BUDGET / shrink)),
    )


def _work(needs: Needs, chosen: Lengths) -> Workload:
    return replace(workload(needs.outputs[chosen]), prompts=needs.prompts[chosen])


def simulated(likeness: Likeness, engine: Calibrated, workers: int, name: str) -> Simulated:
    """A run of all that the likeness holds, in this order."""
    shapes = (_likeness(engine, max(1, round(engine.slots / likeness.shrink))),) * workers
    work = _work(likeness.needs, likeness.every)
    return with_exact_lengths(work, Setting(shapes=shapes), name)


def with_exact_lengths(work: Workload, setting: Setting, name: str) -> Simulated:
    """A run in this order, which is told how long every answer is."""
    clock = Clock()
    known = Known(
        pending=np.arange(len(work)),
        prompts=work.prompts,
        limits=work.limits,
        exact=True,
        earlier=None,
        clock=clock,
    )
    return simulate(work, setting, choose(name, known).order, clock)
