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

    `context` is how many tokens of KV cache each of them has on average until it ends, and `again` how many more of
    those that came back from workers it may get.
    """

    worker: int
    limit: int
    rests: Floats = _NOTHING
    work: float = 0.0
    context: float = 0.0
    again: int = 0

    @property
    def longest(self) -> float:
        """What the longest in flight still has to do."""
        return float(self.rests[-1]) if len(self.rests) else 0.0


class Task(Struct, frozen=True, kw_only=True):
    """What is left: the workers, the lengths of the pending requests, the least first, and all of it in tokens.

    `again` are the lengths of those that came back from workers, of which a worker gets only a few at once: they are
    not among `pending`.
    """

    loads: list[Load]
    pending: Floats
    work: float
    steps: StepTime
    context: float = 0.0  # tokens of KV cache that a pending request has on average
    prompt: float = 0.0
    tail: float = 0.0  # tokens that one of the last requests may go on after the others
    again: Floats = _NOTHING


class Plan(Struct, frozen=True):
    """When all should end, how many requests each worker should have in flight until then, and how much more work.

    `lanes` are the workers that keep smaller batches, for requests that are too long for full ones, and how many of
    those each takes at once; `wards` those that do so for requests that came back, and the longest for each.
    """

    end: float
    caps: dict[int, int]
    quotas: dict[int, float] | None = None
    wards: dict[int, float] = {}
    lanes: dict[int, int] = {}


def make_plan(task: Task, now: float) -> Plan:
    """The earliest end that batches, work and the longest requests allow."""
    least = task.work / sum(_speed(task, load) for load in task.loads)
    if (coarse := _coarse_plan(task, now, least)) is not None:
        return coarse
    low = least + task.tail * min(_tau(task, load, 1) for load in task.loads)
    high = low * 1.0001 + 1e-9
    for _ in range(_DOUBLINGS):
        if _within(task, high) is not None:
            break
        low, high = high, 2 * high
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(task, middle) is None else (low, middle)
    plan = _within(task, high) or Plan(high, {load.worker: load.limit for load in task.loads})
    return replace(plan, end=now + high)


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


def _within(task: Task, seconds: float) -> Plan | None:
    """The largest batches with which everything can end in so many seconds; None if it cannot."""
    caps = {load.worker: _cap(task, load, load.longest, seconds) for load in task.loads}
    wards = _find_wards(task, seconds, caps) if len(task.again) else {}
    if wards is None or min(caps.values()) < 1:
        return None
    lanes = _find_lanes(task, seconds, caps)
    if lanes is None or _room_for_work(task, seconds, caps) < task.work:
        return None
    return Plan(seconds, {w: int(cap) for w, cap in caps.items()}, None, wards, lanes)


def _room_for_work(task: Task, seconds: float, caps: dict[int, float]) -> float:
    """How many tokens there is time for; what is in flight ends in time as it is."""
    return sum(
        max(load.work, caps[load.worker] * seconds / _tau(task, load, caps[load.worker]))
        for load in task.loads
    )


def _find_wards(task: Task, seconds: float, caps: dict[int, float]) -> dict[int, float] | None:
    """Let the batches of a few workers shrink, so that what came back can end in time though it starts only now.

    Those workers take it at once and add nothing else, until their batch is as small as the longest of it needs.
    """
    again = task.again
    wards: dict[int, float] = {}
    left = len(again)
    for load in sorted(task.loads, key=lambda load: (caps[load.worker], load.work)):
        budget = seconds / _tau(task, load, caps[load.worker])
        late = left - int(np.searchsorted(again, budget, side="right"))
        if late <= 0:
            return wards
        longest = float(again[left - 1])
        count, others = _ward(task, load, longest, seconds, min(load.again, late))
        if count:
            caps[load.worker] = count + others
            wards[load.worker] = longest
            left -= count
    return None


def _ward(task: Task, load: Load, longest: float, seconds: float, late: int) -> tuple[int, int]:
    """How many of those that are late can start here now and end in time, and beside how many others."""
    room = _room(task, load, longest, seconds) - float(load.rests.sum())
    count = int(min(late, room / longest))
    if count < 1:
        return 0, 0
    return count, max(0, int(_cap(task, load, longest, seconds, count)))


def _room(task: Task, load: Load, longest: float, seconds: float) -> float:
    """The sum of batches, over all steps of the longest, with which it ends in time."""
    empty = _tau(task, load, 0)
    return (seconds / empty - longest) / max(task.steps.slope(load.context), 1e-12)


def _cap(task: Task, load: Load, longest: float, seconds: float, more: int = 0) -> float:
    """The batch to which this worker may refill so that its longest ends in time, beside so many more as long."""
    if longest <= 0:
        return load.limit
    room = _room(task, load, longest, seconds) - more * longest
    batch = room / longest
    if batch < len(load.rests):  # the batch is larger now, and shrinks as those in flight end
        needed = np.arange(len(load.rests)) * longest + np.cumsum(load.rests)[::-1]
        batch = float(np.searchsorted(needed, room, side="right")) - 1
    return min(float(load.limit), batch)


def _find_lanes(task: Task, seconds: float, caps: dict[int, float]) -> dict[int, int] | None:
    """Lower the batches of as few workers as it takes, so that requests end that are too long for full ones.

    Returns how many of those each of them takes at once, beside what it has; None if they cannot end in time.
    """
    full = seconds / min(_tau(task, load, load.limit) for load in task.loads)
    in_time, left = int(np.searchsorted(task.pending, full, side="right")), len(task.pending)
    lanes: dict[int, int] = {}
    for load in sorted(
        task.loads, key=lambda load: (_tau(task, load, caps[load.worker]), load.work)
    ):
        if left <= in_time:
            break
        longest = float(task.pending[left - 1])
        count, others = _lane(task, load, longest, seconds, left - in_time)
        if count:
            caps[load.worker] = min(caps[load.worker], count + others)
            lanes[load.worker] = count
            left -= count
    return lanes if left <= in_time else None


def _lane(task: Task, load: Load, longest: float, seconds: float, late: int) -> tuple[int, int]:
    """How many of those that are late this worker can take now, and beside how many others."""
    lane = replace(load, context=max(load.context, task.prompt + longest / 2))
    late = min(late, load.limit - len(load.rests))
    return _ward(task, lane, max(longest, load.longest), seconds, late)
