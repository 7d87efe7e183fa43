"""Longest first with a deadline: all workers are to end together, so the longest go where steps are short."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from trt_dp.coordinator.order.contract import (
    NOTHING,
    Answered,
    Asking,
    Clock,
    Indices,
    equal_share,
)
from trt_dp.coordinator.order.guess import Floats, Guess
from trt_dp.coordinator.order.in_flight import InFlight
from trt_dp.coordinator.order.plan import LENIENT, Load, Plan, Task, make_plan
from trt_dp.coordinator.order.ranked import Ranked
from trt_dp.coordinator.order.step_time import StepShape, StepTime, unknown_shape

_REPLANS = 150
_PROBE_DEPTH, _PROBE_LEAST, _PROBE_SHARE, _PROBE_PART = 4, 64, 100, 32
_PROBE_LONGEST = 0.5
_LATE = 0.2


class Lanes:
    """Each worker takes the longest pending request that it can end before the planned end of the run.

    The plan is made anew now and then: with what is pending, what is in flight, and the step times measured so
    far. Where some requests are too long for full batches, a few workers keep smaller ones: the lanes.
    """

    def __init__(
        self,
        indices: Indices,
        guess: Guess,
        clock: Clock,
        prompts: Floats | None = None,
        shape: StepShape | None = None,
    ) -> None:
        self._guess = guess
        self._clock = clock
        self._shape = shape
        self._prompts = (
            prompts if prompts is not None else np.zeros(int(indices.max(initial=-1)) + 1)
        )
        self._prompt_tokens = float(self._prompts[indices].sum())
        self._pending = Ranked(indices, guess.medians(indices))
        self._in_flight = InFlight(self._prompts)
        self._contexts: dict[int, float] = {}
        self._context = self._horizon = self._in_flight_work = 0.0
        self._all_work = float(guess.medians(indices).sum())
        self._budgets: dict[int, float] = {}
        self._dealt: set[int] = set()
        self._probe: _Probe | None = None
        self._limits: dict[int, int] = {}
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
        if self._probe is None:
            self._probe = _Probe(self._pending.lengths, asking.limit * max(1, asking.workers))
            self._probe.over = self._probe.over or self._guess.surprise() > 0
        if not self._probe.over:
            taken = self._try(asking, self._probe)
            if len(taken) or asking.in_flight:
                return self._send(asking, steps, taken)
            self._probe.over = True
        if not steps.measured:
            self._in_flight.measure(steps, self._clock())
        if self._stale or self._since_plan >= self._every:
            self._replan(asking, steps)
        taken = self._choose(asking, steps)
        if not len(taken) and self._since_plan > asking.workers:
            self._replan(asking, steps)
            taken = self._choose(asking, steps)
        if not len(taken) and not asking.in_flight:
            self._stale = True
            share = equal_share(len(self._pending), asking.workers)
            taken = self._pending.take_shortest(min(asking.limit, share))
        return self._send(asking, steps, taken)

    def learn(self, answered: Answered) -> None:
        """How long answers and steps are is learnt from every answer."""
        if self._steps is None:
            return
        self._in_flight.remove(answered, self._steps, self._clock())
        self._guess.learn(answered.indices, answered.tokens)
        if self._probe is not None:
            self._probe.count(answered)
        self._stale = self._stale or not self._steps.measured
        self._since_plan += len(answered.indices)

    def lose(self, worker: int, indices: Iterable[int]) -> list[int]:
        """Others must do what this one would have done; of the suspects, the longest are tried first."""
        self._in_flight.lose(worker)
        if self._steps is not None:
            self._steps.lose(worker)
        self._limits.pop(worker, None)
        self._stale = True
        suspects = np.array(sorted(indices), np.int64)
        falling = np.argsort(-self._guess.medians(suspects), kind="stable")
        ranked: list[int] = suspects[falling].tolist()
        return ranked

    def _send(self, asking: Asking, steps: StepTime, taken: Indices) -> Indices:
        if len(taken):
            self._prompt_tokens -= float(self._prompts[taken].sum())
            self._in_flight.add(asking.worker, taken, steps, self._clock())
        return taken

    def _know(self, asking: Asking) -> StepTime:
        if self._steps is None:
            self._steps = StepTime(self._shape or unknown_shape(asking.limit))
        if asking.worker not in self._limits:
            self._limits[asking.worker] = asking.limit
            self._stale = True
        return self._steps

    def _replan(self, asking: Asking, steps: StepTime) -> None:
        now = self._clock()
        steps.fit()
        self._relearn(steps, now)
        lengths = self._pending.rising()
        prompt = self._prompt_tokens / max(1, len(self._pending))
        total = float(lengths.sum())
        self._context = prompt + (float((lengths**2).sum()) / total / 2 if total else 0.0)
        self._horizon = (total + self._in_flight_work) / max(1, sum(self._limits.values()))
        loads = self._loads(asking, steps, now)
        self._contexts = {load.worker: load.context for load in loads}
        task = self._task(loads, lengths, steps, prompt)
        self._plan = make_plan(task, now)
        # so far any request may turn out to be the longest
        if task.tail and total > _LATE * self._all_work:
            self._plan.caps.update(self._limits)
        self._in_flight_work = sum(load.work for load in loads)
        self._budgets = _budgets(self._plan, loads, steps, now)
        self._stale = False
        self._since_plan = 0

    def _relearn(self, steps: StepTime, now: float) -> None:
        running, done = self._in_flight.progress(steps, now)
        if self._guess.refresh(running, done):
            pending = self._pending.remaining()
            self._pending = Ranked(pending, self._guess.medians(pending))

    def _loads(self, asking: Asking, steps: StepTime, now: float) -> list[Load]:
        """What each worker has to do; one that is absent has nothing."""
        loads = [self._load(worker, limit, steps, now) for worker, limit in self._limits.items()]
        absent = max(0, asking.workers - len(loads))
        return loads + [Load(-1 - n, asking.limit, context=self._context) for n in range(absent)]

    def _task(self, loads: list[Load], lengths: Floats, steps: StepTime, prompt: float) -> Task:
        work = self._guess.mean_of_median() * float(lengths.sum())
        last = float(lengths[len(lengths) // 5]) if len(lengths) else 0.0
        return Task(
            loads=loads,
            pending=lengths,
            work=work + sum(load.work for load in loads),
            steps=steps,
            context=self._context,
            prompt=prompt,
            tail=last * self._guess.surprise(),
        )

    def _load(self, worker: int, limit: int, steps: StepTime, now: float) -> Load:
        mine, done = self._in_flight.of(worker, steps, now)
        means, medians = self._guess.rests(mine, done)
        work = float(means.sum())
        area = float((means * (self._prompts[mine] + done + means / 2)).sum())
        others = max(0.0, limit * self._horizon - work)  # tokens that will take the slots of these
        context = (area + others * self._context) / max(1.0, work + others)
        return Load(worker=worker, limit=limit, rests=np.sort(medians), work=work, context=context)

    def _choose(self, asking: Asking, steps: StepTime) -> Indices:
        plan = self._plan
        cap = min(asking.limit, plan.caps.get(asking.worker, asking.limit))
        room = cap - asking.in_flight
        if room <= 0:
            return NOTHING
        if asking.worker not in self._dealt:
            return self._deal(asking, room)
        if plan.quotas is not None:
            return self._up_to(room, asking.worker, plan.quotas)
        context = self._contexts.get(asking.worker, self._context)
        budget = (plan.end - self._clock()) / steps.seconds(asking.worker, max(1, cap), context)
        return self._pending.take(room, budget * LENIENT)

    def _deal(self, asking: Asking, room: int) -> Indices:
        """The first fill: what only this worker can end in time, and an even share of the rest.

        So no worker gets all of the longest, whose KV cache would make its steps longer than all others.
        """
        self._dealt.add(asking.worker)
        others = [b for worker, b in self._budgets.items() if worker not in self._dealt]
        mine = self._budgets.get(asking.worker, 0.0) * LENIENT
        lane = self._pending.take_between(room, max(others, default=mine), mine)
        room -= len(lane)
        if self._plan.quotas is not None:
            mine = np.inf
            room = min(room, -(-len(self._pending) // (len(others) + 1)))
        return np.concatenate([lane, self._pending.take_every(len(others) + 1, room, mine)])

    def _try(self, asking: Asking, probe: _Probe) -> Indices:
        """A quarter of a batch at first, then half of one, of the shorter requests: how long do steps take?"""
        room = probe.cap(asking) - asking.in_flight
        return self._pending.take_places(probe.next(room)) if room > 0 else NOTHING

    def _up_to(self, room: int, worker: int, quotas: dict[int, float]) -> Indices:
        """The longest, as far as this worker's quota goes."""
        longest = self._pending.rising()[::-1][:room]
        upto = np.cumsum(longest) * self._guess.mean_of_median()
        quota = quotas.get(worker, 0.0) + float(longest[0]) / 2  # rounded, not cut
        room = int(np.searchsorted(upto, quota, side="right"))
        if not room:
            return NOTHING
        quotas[worker] -= float(upto[room - 1])
        return self._pending.take(room, np.inf)


class _Probe:
    """The first requests: they show how long steps take, while the long ones wait for what they show.

    Where there are few requests for each slot, every second counts for the long ones; where the longest does not
    take half as long as all, none must be fast. Then nothing is tried.
    """

    def __init__(self, lengths: Floats, slots: int) -> None:
        pending = len(lengths)
        half = pending // 2
        self._wanted = max(_PROBE_LEAST, pending // _PROBE_SHARE)
        count = min(half, slots + 2 * self._wanted)
        step = next(n for n in range(int(half * 0.618) | 1, half + 3, 2) if math.gcd(n, half) == 1)
        self._places = (np.arange(count) * step) % max(1, half)
        self._next = 0
        self._answers: dict[int, int] = {}
        longest = float(lengths[-1]) if pending else 0.0
        uneven = longest * slots > _PROBE_LONGEST * float(lengths.sum())
        self.over = pending < _PROBE_DEPTH * slots or not uneven

    def cap(self, asking: Asking) -> int:
        """How many this worker should have in flight."""
        some = self._answers.get(asking.worker, 0) * _PROBE_PART >= asking.limit
        return max(1, asking.limit // (2 if some else 4))

    def next(self, room: int) -> Indices:
        """The places of the next ones, by length."""
        places = self._places[self._next : self._next + room]
        self._next += len(places)
        return places

    def count(self, answered: Answered) -> None:
        """The probe is over once there are enough answers, from every worker that has any."""
        worker = answered.worker
        self._answers[worker] = self._answers.get(worker, 0) + len(answered.indices)
        enough = sum(self._answers.values()) >= self._wanted
        self.over = self.over or enough or self._next == len(self._places)


def _budgets(plan: Plan, loads: Iterable[Load], steps: StepTime, now: float) -> dict[int, float]:
    """How many steps each worker can make until the planned end."""
    left = plan.end - now
    return {
        load.worker: left / steps.seconds(load.worker, plan.caps[load.worker], load.context)
        for load in loads
    }
