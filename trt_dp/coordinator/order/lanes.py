"""Longest first with a deadline: all workers are to end together, so the longest go where steps are short."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from trt_dp.coordinator.order.contract import NOTHING, Answered, Asking, Clock, Indices, equal_share
from trt_dp.coordinator.order.ranked import Lengths, Ranked
from trt_dp.coordinator.order.step_time import StepTime

NO_RESTS = np.empty(0, np.float64)
_REPLANS = 200
_ROUNDS = 18
_LENIENT = 1.005
COARSE = 0.5


class Load(Struct):
    """One worker in a plan: what it takes, and what those in flight still have to do, in tokens, the least first."""

    worker: int
    limit: int
    rests: Lengths = NO_RESTS

    @property
    def longest(self) -> float:
        """What the longest in flight still has to do."""
        return float(self.rests[-1]) if len(self.rests) else 0.0

    def free(self, cap: int, budget: float, length: float) -> int:
        """How many requests of this length can still be started here, in so many slots, and end within a budget."""
        blocked = len(self.rests) - int(np.searchsorted(self.rests, budget * _LENIENT - length, side="right"))
        return max(0, cap - blocked) * max(1, int(budget / max(1.0, length)))


class Plan(Struct, frozen=True):
    """When all is to be over, and how many requests each worker should have in flight until then."""

    end: float
    caps: dict[int, int]
    quotas: dict[int, float] | None = None


def make_plan(loads: list[Load], pending: Lengths, steps: StepTime, now: float) -> Plan:
    """The earliest end that batches, work and the longest requests allow."""
    needed = float(pending.sum()) + sum(float(load.rests.sum()) for load in loads)
    speed = sum(load.limit / steps.seconds(load.worker, load.limit) for load in loads)
    low = needed / speed
    if (coarse := _coarse_plan(loads, pending, steps, now, low)) is not None:
        return coarse
    high = 2 * low + 1e-9
    while _caps(loads, pending, steps, high, needed) is None:
        low, high = high, 2 * high
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        if _caps(loads, pending, steps, middle, needed) is None:
            low = middle
        else:
            high = middle
    return Plan(now + high, _caps(loads, pending, steps, high, needed) or {})


def _coarse_plan(
    loads: list[Load], pending: Lengths, steps: StepTime, now: float, seconds: float
) -> Plan | None:
    """Where a slot can take about one more request before the end: shares of the work that are equal by speed."""
    if not len(pending):
        return None
    typical = float(pending[len(pending) // 2])
    speeds = [load.limit / steps.seconds(load.worker, load.limit) for load in loads]
    step = sum(load.limit for load in loads) / sum(speeds)
    if typical * step < COARSE * seconds:
        return None
    end = max(seconds + typical * step / 2, *(_drain(load, steps) for load in loads), 0.0)
    needed = float(pending.sum()) + sum(float(load.rests.sum()) for load in loads)
    quotas, caps = {}, {}
    for load, speed in zip(loads, speeds, strict=True):
        quotas[load.worker] = needed * speed / sum(speeds) - float(load.rests.sum())
        caps[load.worker] = max(1, int(_cap(load, load.longest, steps, end)))
    return Plan(now + end, caps, quotas)


def _drain(load: Load, steps: StepTime) -> float:
    """Seconds until all that this worker has in flight has ended, if nothing is added."""
    batches = np.arange(len(load.rests), 0, -1)
    gaps = np.diff(load.rests, prepend=0.0)
    return float((gaps * (1 + steps.slope * batches)).sum()) * steps.seconds(load.worker, 0)


def _caps(
    loads: list[Load], pending: Lengths, steps: StepTime, seconds: float, needed: float
) -> dict[int, int] | None:
    """The largest batches with which everything can end in so many seconds; None if it cannot."""
    caps: dict[int, float] = {}
    for load in loads:
        cap = _cap(load, load.longest, steps, seconds)
        if cap < 1:
            return None
        caps[load.worker] = cap
    if not _find_lanes(loads, pending, steps, seconds, caps):
        return None
    room = sum(cap * seconds / steps.seconds(worker, cap) for worker, cap in caps.items())
    return {worker: int(cap) for worker, cap in caps.items()} if room >= needed else None


def _cap(load: Load, longest: float, steps: StepTime, seconds: float) -> float:
    if longest <= 0:
        return load.limit
    return min(float(load.limit), steps.largest_batch(load.worker, seconds / longest))


def _find_lanes(
    loads: list[Load],
    pending: Lengths,
    steps: StepTime,
    seconds: float,
    caps: dict[int, float],
) -> bool:
    """Lower the batches of as few workers as it takes for the longest pending requests to end in time."""
    left = len(pending)
    by_speed = sorted(loads, key=lambda load: steps.seconds(load.worker, caps[load.worker]))
    budgets = [seconds / steps.seconds(load.worker, caps[load.worker]) for load in by_speed]
    for at, load in enumerate(by_speed):
        if not left or pending[left - 1] <= budgets[at]:
            return True
        cap = _cap(load, max(load.longest, float(pending[left - 1])), steps, seconds)
        if cap < 1:
            return False
        caps[load.worker] = cap
        budget = seconds / steps.seconds(load.worker, cap)
        left = max(0, left - load.free(int(cap), budget, float(pending[left - 1])))
    return not left or bool(pending[left - 1] <= budgets[-1])


class _Resident(Struct):
    """A request in flight: its expected length, and how far its worker was when it left."""

    length: float
    steps_before: float
    batch_seconds: float
    sent: float


class Lanes:
    """Each worker takes the longest pending request that it can end before the planned end of the run.

    The plan is made anew now and then: with what is pending, what is in flight, and the step times measured so
    far. Where some requests are too long for full batches, a few workers keep smaller ones: the lanes.
    """

    def __init__(self, indices: Indices, lengths: Lengths, clock: Clock, workers: int) -> None:
        self._pending = Ranked(indices, lengths)
        self._length = dict(zip(indices.tolist(), lengths.tolist(), strict=True))
        self._clock = clock
        self._workers = workers
        self._limits: dict[int, int] = {}
        self._residents: dict[int, dict[int, _Resident]] = {}
        self._steps: StepTime | None = None
        self._plan = Plan(0.0, {})
        self._stale = True
        self._since_plan = 0
        self._every = max(16, len(indices) // _REPLANS)

    def __len__(self) -> int:
        """How many are pending."""
        return len(self._pending)

    def take(self, asking: Asking) -> Indices:
        """The longest that this worker can end in time; the shortest, if it has nothing and can end none in time."""
        steps = self._know(asking)
        if self._stale or self._since_plan >= self._every:
            self._replan(asking, steps)
        cap = self._plan.caps.get(asking.worker, asking.limit)
        room = min(cap, asking.limit) - asking.in_flight
        if room <= 0 and asking.in_flight:
            return NOTHING
        taken = self._fitting(asking, steps, cap)
        if not len(taken) and self._since_plan > asking.workers:
            self._replan(asking, steps)
            cap = self._plan.caps.get(asking.worker, asking.limit)
            taken = self._fitting(asking, steps, cap)
        if not len(taken) and not asking.in_flight:
            self._stale = True
            share = equal_share(len(self._pending), asking.workers)
            taken = self._pending.take_shortest(min(asking.limit, share))
        self._note(asking, steps, taken)
        return taken

    def _fitting(self, asking: Asking, steps: StepTime, cap: int) -> Indices:
        room = min(cap, asking.limit) - asking.in_flight
        if room <= 0:
            return NOTHING
        if self._plan.quotas is not None:
            return self._share(room, asking.worker, self._plan.quotas)
        budget = (self._plan.end - self._clock()) / steps.seconds(asking.worker, max(1, cap))
        return self._pending.take(room, budget * _LENIENT)

    def _share(self, room: int, worker: int, quotas: dict[int, float]) -> Indices:
        """The longest, up to this worker's quota."""
        quota = quotas.get(worker, 0.0)
        upto = np.cumsum(self._pending.rising()[::-1][:room])
        room = int(np.searchsorted(upto, quota, side="right"))
        if not room:
            return NOTHING
        quotas[worker] = quota - float(upto[room - 1])
        return self._pending.take(room, np.inf)

    def learn(self, answered: Answered) -> None:
        """How long steps take is learnt from every answer."""
        steps, mine = self._steps, self._residents.get(answered.worker, {})
        if steps is None:
            return
        now = self._clock()
        steps.change(answered.worker, len(mine), now)
        integral = steps.batch_seconds(answered.worker)
        for index, tokens, seconds in zip(
            answered.indices, answered.tokens, answered.seconds, strict=True
        ):
            resident = mine.pop(index, None)
            if resident is not None and now > resident.sent:
                batch = (integral - resident.batch_seconds) / (now - resident.sent)
                steps.observe(answered.worker, tokens, seconds, batch)
        steps.change(answered.worker, len(mine), now)
        self._stale = self._stale or not steps.measured
        self._since_plan += len(answered.indices)

    def lose(self, worker: int) -> None:
        """Others must do what this one would have done."""
        self._residents.pop(worker, None)
        self._limits.pop(worker, None)
        self._stale = True

    def _know(self, asking: Asking) -> StepTime:
        if self._steps is None:
            self._steps = StepTime(asking.limit)
        if asking.worker not in self._limits:
            self._limits[asking.worker] = asking.limit
            self._stale = True
        return self._steps

    def _replan(self, asking: Asking, steps: StepTime) -> None:
        now = self._clock()
        steps.fit()
        loads = [self._load(worker, limit, steps, now) for worker, limit in self._limits.items()]
        absent = max(0, asking.workers - len(loads))
        loads += [Load(-1 - n, asking.limit) for n in range(absent)]
        self._plan = make_plan(loads, self._pending.rising(), steps, now)
        self._stale = False
        self._since_plan = 0

    def _load(self, worker: int, limit: int, steps: StepTime, now: float) -> Load:
        mine = self._residents.get(worker, {})
        done = steps.change(worker, len(mine), now)
        rests = np.array([max(0.0, r.length - (done - r.steps_before)) for r in mine.values()])
        return Load(worker, limit, np.sort(rests))

    def _note(self, asking: Asking, steps: StepTime, taken: Indices) -> None:
        mine = self._residents.setdefault(asking.worker, {})
        now = self._clock()
        done = steps.change(asking.worker, len(mine), now)
        integral = steps.batch_seconds(asking.worker)
        for index in taken.tolist():
            mine[index] = _Resident(self._length[index], done, integral, now)
        steps.change(asking.worker, len(mine), now)
