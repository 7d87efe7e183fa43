"""The cases by which orders are judged: workloads, engines, what happens to them, and what is known of lengths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from trt_dp.simulate.engine import EngineShape
from trt_dp.simulate.shapes import (
    TAIL_LONGEST,
    Name,
    Workload,
    grouped,
    lengths,
    sampled_prompts,
    shared_prefixes,
    workload,
)
from trt_dp.simulate.step_models import Linear, Roofline
from trt_dp.simulate.world import Fault, Setting

Knowledge = Literal["exact", "predicted", "limits", "wrong"]
Dice = np.random.Generator

WORKERS, REQUESTS = 8, 20_000
_SLOW = 0.7
_PREFIX_ENGINE = EngineShape(
    model=Linear(per_prefill_token=20e-6), prefills=True, prefix_cache_tokens=60_000, slots=64
)


class Case(Struct, frozen=True, kw_only=True):
    """A workload for each seed, the engines, what an order may know, and the efficiency it should reach."""

    name: str
    make: Callable[[Dice], Workload]
    setting: Setting
    knowledge: Knowledge = "exact"
    target: float = 0.0
    baseline: str = ""  # where the target is a speed-up over this order


def engines(shape: EngineShape, workers: int = WORKERS) -> tuple[EngineShape, ...]:
    """So many equal engines."""
    return (shape,) * workers


def _slow_one(speed: float = _SLOW) -> tuple[EngineShape, ...]:
    return (*engines(EngineShape(), 2), EngineShape(speed=speed), *engines(EngineShape(), 5))


def _of(shape: Name, count: int = REQUESTS) -> Callable[[Dice], Workload]:
    return lambda dice: workload(lengths(shape, count, dice))


def _backwards(dice: Dice) -> Workload:
    """All long ones last."""
    return workload(np.sort(lengths("long-tail", REQUESTS, dice)))


def _two_a_slot(dice: Dice) -> Workload:
    """So few requests that each slot gets about two."""
    return workload(lengths("sixteen-k", 2048, dice), prompt=500)


def _one_prefix(dice: Dice) -> Workload:
    """Most requests begin alike: one group of prefixes is larger than a worker's share of all."""
    work = shared_prefixes(dice)
    return replace(work, prefixes=np.where(dice.random(len(work)) < 0.8, 0, work.prefixes))


def _unknown(dice: Dice) -> Workload:
    """Only max_tokens is known, and it is the same for all."""
    return workload(lengths("long-tail", REQUESTS, dice), limit=TAIL_LONGEST)


EQUAL = Setting(shapes=engines(EngineShape()))
SLOW = Setting(shapes=_slow_one())
_HALFWAY = 37.0
CRASH = replace(EQUAL, faults=(Fault(worker=3, at=_HALFWAY, back_after=60.0),))
EARLY_CRASH = replace(EQUAL, faults=(Fault(worker=3, at=5.0, back_after=3.0),))
SLOWS_DOWN = replace(EQUAL, faults=(Fault(worker=3, at=_HALFWAY, kind="speed", speed=_SLOW),))
VERY_SLOW = Setting(shapes=_slow_one(0.4))
COLLAPSES = replace(EQUAL, faults=(Fault(worker=3, at=_HALFWAY, kind="speed", speed=0.2),))
LATE = replace(EQUAL, ready_at=(0.0,) * 7 + (20.0,))
TIGHT, TIGHTER = (
    Setting(shapes=engines(EngineShape(kv_tokens=TAIL_LONGEST * 256 // n, admission="optimistic")))
    for n in (3, 6)
)
CROWDED, RESERVING = (
    Setting(shapes=engines(EngineShape(kv_tokens=TAIL_LONGEST * 256 // 24, admission=kind)))
    for kind in ("optimistic", "reserve")
)
ROOFLINE, HALF_ROOFLINE = (
    Setting(shapes=engines(EngineShape(model=Roofline()), workers)) for workers in (8, 4)
)


def _case(name: str, shape: Name, setting: Setting = EQUAL, target: float = 0.0) -> Case:
    return Case(name=name, make=_of(shape), setting=setting, target=target)


CASES = (
    _case("fixed 128", "fixed", target=98.5),
    _case("fixed 128, one of 8 at 70 %", "fixed", SLOW),
    _case("fixed 128, crash after 5 s, back after 3 s", "fixed", EARLY_CRASH),
    _case("normal 512 +- 128", "normal", target=98.5),
    _case("bimodal 128, 2048", "bimodal"),
    _case("long tail", "long-tail", target=94),
    Case(name="long tail, all long ones last", make=_backwards, setting=EQUAL, target=94),
    Case(
        name="long tail, predictions off by sigma 0.5",
        make=_of("long-tail"),
        setting=EQUAL,
        knowledge="predicted",
        target=87,
    ),
    Case(
        name="long tail, predictions the wrong way round",
        make=_of("long-tail"),
        setting=EQUAL,
        knowledge="wrong",
    ),
    Case(
        name="long tail, nothing known, 10 groups",
        make=lambda dice: grouped(REQUESTS, 10, dice),
        setting=EQUAL,
        knowledge="limits",
        target=78,
    ),
    Case(name="long tail, nothing known", make=_unknown, setting=EQUAL, knowledge="limits"),
    _case("long tail, one of 8 at 70 %", "long-tail", SLOW, 90),
    _case("normal, one of 8 at 70 %", "normal", SLOW, 97),
    _case("long tail, one slows to 70 % halfway", "long-tail", SLOWS_DOWN),
    _case("long tail, one of 8 at 40 %", "long-tail", VERY_SLOW),
    _case("long tail, one slows down to 20 % halfway", "long-tail", COLLAPSES),
    _case("long tail, one joins after 20 s", "long-tail", LATE),
    _case("long tail, KV cache for a third", "long-tail", TIGHT, 90),
    _case("long tail, KV cache for a sixth", "long-tail", TIGHTER),
    _case("long tail, KV cache for a 24th", "long-tail", CROWDED),
    _case("long tail, KV cache for a 24th, all of it reserved", "long-tail", RESERVING),
    _case("long tail, crash halfway, back after 60 s", "long-tail", CRASH, 85),
    Case(
        name="512 requests up to 16 K, 32 prompts x 16",
        make=sampled_prompts,
        setting=EQUAL,
        target=1.67,
        baseline="groups",
    ),
    Case(
        name="the same, roofline of a GPU",
        make=sampled_prompts,
        setting=ROOFLINE,
        target=1.67,
        baseline="groups",
    ),
    Case(name="2,048 requests up to 16 K, roofline", make=_two_a_slot, setting=HALF_ROOFLINE),
    _case(
        "long tail, roofline, attention after matrices",
        "long-tail",
        ROOFLINE,
    ),
    _case(
        "long tail, roofline, attention meanwhile",
        "long-tail",
        Setting(shapes=engines(EngineShape(model=Roofline(overlapped=True)))),
    ),
    Case(
        name="shared prefixes",
        make=shared_prefixes,
        setting=Setting(shapes=engines(_PREFIX_ENGINE)),
        target=1.9,
        baseline="static",
    ),
    Case(
        name="one huge group of prefixes, 80 % of all",
        make=_one_prefix,
        setting=Setting(shapes=engines(_PREFIX_ENGINE)),
        baseline="static",
    ),
)
