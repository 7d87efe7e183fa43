"""One order in one case over several seeds: how near it comes to the bound, and where the rest goes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from trt_dp.coordinator.order.choose import Known, choose
from trt_dp.coordinator.order.contract import Order
from trt_dp.coordinator.queue.dispatcher import Dispatcher
from trt_dp.simulate.bounds import bound, bound_of_present
from trt_dp.simulate.cases import Case
from trt_dp.simulate.shapes import Lengths, Workload, whole
from trt_dp.simulate.static import by_groups, dealt
from trt_dp.simulate.world import Clock, Setting, Simulated, World

STATIC, GROUPS = "static", "groups"
_T_95 = 1.96
_PREDICTION_SIGMA = 0.5


class Losses(Struct, frozen=True):
    """Percent of all engine time: no engine, no work, batches that were not full, and work that was done twice."""

    down: float
    idle: float
    partial: float
    repeated: float


class Trial(Struct, frozen=True, kw_only=True):
    """One simulated run."""

    seconds: float
    bound: float
    bound_of_present: float
    losses: Losses
    preemptions: float
    imbalance: float
    requests: int

    @property
    def efficiency(self) -> float:
        """Percent of the bound."""
        return 100 * self.bound / self.seconds

    @property
    def of_present(self) -> float:
        """Percent of the bound of the engines that were there."""
        return 100 * self.bound_of_present / self.seconds


class Study(Struct, frozen=True):
    """The trials of one order in one case."""

    case: str
    order: str
    trials: list[Trial]

    @property
    def efficiency(self) -> float:
        """The mean over the seeds."""
        return float(np.mean([trial.efficiency for trial in self.trials]))

    @property
    def interval(self) -> float:
        """Half of the 95 % confidence interval of that mean."""
        values = [trial.efficiency for trial in self.trials]
        if len(values) < 2:
            return math.nan
        return float(_T_95 * np.std(values, ddof=1) / math.sqrt(len(values)))


def study(case: Case, order: str, seeds: Sequence[int]) -> Study:
    """Simulate a case once for each seed."""
    return Study(case.name, order, [trial(case, order, seed) for seed in seeds])


def trial(case: Case, order: str, seed: int) -> Trial:
    """Simulate a case."""
    work = case.make(np.random.default_rng(seed))
    clock = Clock()
    chosen = make_order(order, work, case, clock, seed)
    return judge(work, case.setting, simulate(work, case.setting, chosen, clock))


def simulate(work: Workload, setting: Setting, order: Order, clock: Clock) -> Simulated:
    """One run of the dispatcher in virtual time."""
    dispatcher = Dispatcher(order, len(setting.shapes))
    return World(work, setting, clock).run(dispatcher, order)


def make_order(name: str, work: Workload, case: Case, clock: Clock, seed: int) -> Order:
    """The order of this name, which knows no more of the work than the case allows."""
    indices = np.arange(len(work))
    workers = len(case.setting.shapes)
    if name == STATIC:
        return dealt(indices, workers)
    if name == GROUPS:
        return by_groups(indices, work.groups, workers)
    return choose(name, known(work, case, clock, seed)).order


def known(work: Workload, case: Case, clock: Clock, seed: int) -> Known:
    """What a run would know about such requests."""
    exact = case.knowledge == "exact"
    return Known(
        pending=np.arange(len(work)),
        prompts=work.prompts,
        limits=work.outputs if exact else np.maximum(work.limits, work.outputs.max()),
        exact=exact,
        earlier=_predictions(work, case, seed),
        clock=clock,
        prefixes=lambda: work.prefixes,
    )


def _predictions(work: Workload, case: Case, seed: int) -> Lengths | None:
    if case.knowledge == "predicted":
        dice = np.random.default_rng((seed, 1))
        off = np.exp(dice.normal(0, _PREDICTION_SIGMA, len(work)))
        return np.maximum(1, work.outputs * off).astype(np.int64)
    if case.knowledge == "wrong":
        return whole(work.outputs.max() / work.outputs, int(work.outputs.max()))
    return None


def judge(work: Workload, setting: Setting, simulated: Simulated) -> Trial:
    """What a simulated run was worth."""
    seconds, spent = simulated.seconds, simulated.spent
    whole = seconds * len(setting.shapes)
    busy = sum(each.busy for each in spent)
    useful = sum(each.useful / each.speed for each in spent)
    repeated = sum(each.repeated for each in spent)
    alive = sum(simulated.alive_seconds)
    ends = [each.last for each in spent]
    return Trial(
        seconds=seconds,
        bound=bound(work, setting.shapes),
        bound_of_present=bound_of_present(work, setting),
        losses=Losses(
            down=100 * (whole - alive) / whole,
            idle=100 * (alive - busy) / whole,
            partial=100 * (busy - useful - repeated) / whole,
            repeated=100 * repeated / whole,
        ),
        preemptions=100 * sum(each.preemptions for each in spent) / len(work),
        imbalance=100 * (max(ends) - min(ends)) / seconds,
        requests=len(work),
    )
