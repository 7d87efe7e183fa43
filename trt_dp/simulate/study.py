"""One order in one case over several seeds: how near it comes to the bound, and where the rest goes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from trt_dp.coordinator.order.choose import Known, choose
from trt_dp.coordinator.order.contract import Order
from trt_dp.coordinator.queue.copies import Copies, copies_of
from trt_dp.coordinator.queue.dispatcher import Dispatcher
from trt_dp.coordinator.remaining import Progress, Remaining
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
    copies: int = 0
    copies_won: int = 0

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


def study(case: Case, order: str, seeds: Sequence[int], *, speculate: bool = False) -> Study:
    """Simulate a case once for each seed."""
    trials = [trial(case, order, seed, speculate=speculate) for seed in seeds]
    return Study(case.name, order, trials)


def trial(case: Case, order: str, seed: int, *, speculate: bool = False) -> Trial:
    """Simulate a case."""
    work = case.make(np.random.default_rng(seed))
    clock = Clock()
    chosen = make_order(order, work, case, clock, seed)
    copies = copies_of(known(work, case, clock, seed)) if speculate else None
    return judge(work, case.setting, simulate(work, case.setting, chosen, clock, copies))


class Look(Struct, frozen=True):
    """At this share of the output tokens: how far off the predicted end is, in percent of the run."""

    share: float
    by_tokens_and_order: float
    by_requests: float


def looks(case: Case, order: str, seed: int, shares: Sequence[float]) -> list[Look]:
    """What a watcher of a simulated run is told about its end, at these moments."""
    work, clock = case.make(np.random.default_rng(seed)), Clock()
    chosen, what = make_order(order, work, case, clock, seed), known(work, case, clock, seed)
    remaining = Remaining(chosen, what.pending, what.limits)
    seen: list[tuple[float, float, float]] = []

    def watch(at: Progress, completed: NDArray[np.bool_]) -> None:
        share = float(work.outputs[completed].sum() / work.outputs.sum())
        ours, count = remaining.seconds(at), int(completed.sum())
        if ours is not None and count:
            seen.append((share, at.now + ours, at.now * len(work) / count))

    world = World(work, case.setting, clock)
    world.watch = watch
    end = world.run(Dispatcher(chosen, len(case.setting.shapes))).seconds
    chosen_looks = [next((one for one in seen if one[0] >= share), seen[-1]) for share in shares]
    return [Look(one[0], *(100 * (at / end - 1) for at in one[1:])) for one in chosen_looks]


def simulate(
    work: Workload, setting: Setting, order: Order, clock: Clock, copies: Copies | None = None
) -> Simulated:
    """One run of the dispatcher in virtual time."""
    dispatcher = Dispatcher(order, len(setting.shapes), copies=copies)
    return World(work, setting, clock).run(dispatcher)


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
        copies=simulated.copies,
        copies_won=simulated.copies_won,
    )
