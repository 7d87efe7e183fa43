"""When a run can end, and the batches with which all workers end then: pure arithmetic over what is left to do."""

from __future__ import annotations

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from trt_dp.coordinator.order.guess import Floats
from trt_dp.coordinator.order.step_time import StepTime

LENIENT = 1.005
_ROUNDS = 18
_DOUBLINGS = 40
_COARSE = 0.5
_NOTHING = np.empty(0, np.float64)


class Load(Struct):
    """A worker: how many it takes, and what those in flight still have to do: each, the least first, and all together.

    `context` is how many tokens of KV cache each of them has on average until it ends.
    """

    worker: int
    limit: int
    rests: Floats = _NOTHING
    work: float = 0.0
    context: float = 0.0

    @property
    def longest(self) -> float:
        """What the longest in flight still has to do."""
        return float(self.rests[-1]) if len(self.rests) else 0.0

    def free(self, cap: int, budget: float, length: float) -> int:
        """How many requests of this length can still start here, in so many slots, and end within a budget."""
        fitting = np.searchsorted(self.rests, budget * LENIENT - length, side="right")
        blocked = len(self.rests) - int(fitting)
        return max(0, cap - blocked) * max(1, int(budget / max(1.0, length)))


class Task(Struct, frozen=True):
    """What is left: the workers, the lengths of the pending requests, the least first, and all of it in tokens."""

    loads: list[Load]
    pending: Floats
    work: float
    steps: StepTime
    context: float = 0.0  # tokens of KV cache that a pending request has on average
    prompt: float = 0.0
    tail: float = 0.0  # tokens that one of the last requests may go on after the others


class Plan(Struct, frozen=True):
    """When all should end, how many requests each worker should have in flight until then, and how much more work."""

    end: float
    caps: dict[int, int]
    quotas: dict[int, float] | None = None


def make_plan(task: Task, now: float) -> Plan:
    """The earliest end that batches, work and the longest requests allow."""
    least = task.work / sum(_speed(task, load) for load in task.loads)
    if (coarse := _coarse_plan(task, now, least)) is not None:
        return coarse
    low = least + task.tail * min(_tau(task, load, 1) for load in task.loads)
    high = low * 1.0001 + 1e-9
    for _ in range(_DOUBLINGS):
        if _caps(task, high) is not None:
            break
        low, high = high, 2 * high
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        low, high = (middle, high) if _caps(task, middle) is None else (low, middle)
    caps = _caps(task, high) or {load.worker: load.limit for load in task.loads}
    return Plan(now + high, caps)


def _speed(task: Task, load: Load) -> float:
    return load.limit / task.steps.seconds(load.worker, load.limit, task.context)


def _tau(task: Task, load: Load, batch: float) -> float:
    return task.steps.seconds(load.worker, batch, load.context)


def _coarse_plan(task: Task, now: float, seconds: float) -> Plan | None:
    """Where a slot can take about one more request before the end: shares of the work that are equal by speed."""
    if not len(task.pending):
        return None
    speeds = [_speed(task, load) for load in task.loads]
    step = sum(load.limit for load in task.loads) / sum(speeds)
    typical = float(task.pending[len(task.pending) // 2]) * step
    if typical < _COARSE * seconds:
        return None
    end = max(seconds + typical / 2, *(_drain(task, load) for load in task.loads), 0.0)
    quotas, caps = {}, {}
    for load, speed in zip(task.loads, speeds, strict=True):
        quotas[load.worker] = task.work * speed / sum(speeds) - load.work
        caps[load.worker] = max(1, int(_cap(task, load, load.longest, end)))
    return Plan(now + end, caps, quotas)


def _drain(task: Task, load: Load) -> float:
    """Seconds until all that this worker has in flight has ended, if nothing is added."""
    batches = np.arange(len(load.rests), 0, -1)
    gaps = np.diff(load.rests, prepend=0.0)
    weighed = float((gaps * (1 + task.steps.slope(load.context) * batches)).sum())
    return weighed * _tau(task, load, 0)


def _caps(task: Task, seconds: float) -> dict[int, int] | None:
    """The largest batches with which everything can end in so many seconds; None if it cannot."""
    caps = {load.worker: _cap(task, load, load.longest, seconds) for load in task.loads}
    if min(caps.values()) < 1 or not _find_lanes(task, seconds, caps):
        return None
    room = sum(
        caps[load.worker] * seconds / _tau(task, load, caps[load.worker]) for load in task.loads
    )
    return {worker: int(cap) for worker, cap in caps.items()} if room >= task.work else None


def _cap(task: Task, load: Load, longest: float, seconds: float) -> float:
    if longest <= 0:
        return load.limit
    batch = task.steps.largest_batch(load.worker, seconds / longest, load.context)
    return min(float(load.limit), batch)


def _find_lanes(task: Task, seconds: float, caps: dict[int, float]) -> bool:
    """Lower the batches of as few workers as it takes for the longest pending requests to end in time."""
    pending = task.pending
    taus = {load.worker: _tau(task, load, caps[load.worker]) for load in task.loads}
    left = len(pending)
    for load in sorted(task.loads, key=lambda load: taus[load.worker]):
        longest = float(pending[left - 1]) if left else 0.0
        if longest <= seconds / taus[load.worker]:
            return True
        lane = replace(load, context=max(load.context, task.prompt + longest / 2))
        cap = _cap(task, lane, max(load.longest, longest), seconds)
        if cap < 1:
            return False
        caps[load.worker] = cap
        budget = seconds / _tau(task, lane, cap)
        left = max(0, left - load.free(int(cap), budget, longest))
    return not left
