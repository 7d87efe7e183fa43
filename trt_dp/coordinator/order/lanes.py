"""Longest first with a deadline: all workers are to end together, so the longest go where steps are short."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from msgspec import Struct

from trt_dp.coordinator.order.contract import (
    NOTHING,
    SUSPECTS_TOGETHER,
    Answered,
    Asking,
    Clock,
    Indices,
    as_they_came,
    equal_share,
)
from trt_dp.coordinator.order.guess import Floats, Guess
from trt_dp.coordinator.order.in_flight import InFlight
from trt_dp.coordinator.order.plan import LENIENT, Load, Plan, Task, make_plan
from trt_dp.coordinator.order.probe import Probe
from trt_dp.coordinator.order.ranked import Ranked
from trt_dp.coordinator.order.step_time import StepShape, StepTime, unknown_shape

_REPLANS = 150
_SLOW = 1.15
_SOON = 1.02
_LANE = 1.05  # a worker that reaches no further than this is no lane


class Back(Struct, frozen=True):
    """Requests that came back from workers, the longest first."""

    indices: Indices
    lengths: Floats

    def between(self, shortest: float, longest: float) -> Indices:
        """Those longer than the one length and not longer than the other."""
        return self.indices[(self.lengths > shortest) & (self.lengths <= longest)]


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
        self._context = 0.0
        self._horizon = 0.0
        self._in_flight_work = 0.0
        self._budgets: dict[int, float] = {}
        self._dealt: set[int] = set()
        self._probe: Probe | None = None
        self._limits: dict[int, int] = {}
        self._died: set[int] = set()
        self._room_again: dict[int, int] = {}
        self._steps: StepTime | None = None
        self._plan = Plan(0.0, {})
        self._unsure = guess.surprise() > 0
        self._stale = True
        self._since_plan = 0
        self._every = max(16, len(indices) // _REPLANS)

    def __len__(self) -> int:
        """How many are pending."""
        return len(self._pending)

    @property
    def steps(self) -> StepTime | None:
        """What was learnt of the time of steps; nothing before the first worker asks."""
        return self._steps

    def take(self, asking: Asking) -> Indices:
        """The longest that this worker can end in time; the shortest, if it has nothing and can end none in time."""
        steps = self._know(asking)
        if self._probe is None:
            self._probe = Probe(self._pending.lengths, asking.limit * max(1, asking.workers))
            self._probe.over = self._probe.over or self._unsure
        if not self._probe.over:
            taken = self._try(asking, self._probe)
            if len(taken) or asking.in_flight:
                return self._send(asking, steps, taken)
            self._probe.over = True
        self._keep_plan(asking, steps)
        taken = self._choose(asking, steps)
        if not len(taken) and self._since_plan > asking.workers:
            self._replan(asking, steps)
            taken = self._choose(asking, steps)
        if not len(taken) and not asking.in_flight:
            self._stale = True
            share = equal_share(len(self._pending), asking.workers)
            taken = self._pending.take_shortest(min(asking.limit, share))
        return self._send(asking, steps, taken)

    def again(self, asking: Asking, waiting: Indices) -> Indices:
        """The longest of these that this worker can end in time."""
        steps = self._know(asking)
        self._room_again[asking.worker] = asking.again
        if asking.in_flight >= asking.limit:
            return NOTHING
        if self._probe is None or not self._probe.over:
            taken = as_they_came(asking, waiting)
        else:
            lengths = self._guess.medians(waiting)
            falling = np.argsort(-lengths, kind="stable")
            self._keep_plan(asking, steps)
            taken = self._choose_again(Back(waiting[falling], lengths[falling]), asking, steps)
        if len(taken):
            self._room_again[asking.worker] -= len(taken)
            self._in_flight.add(asking.worker, taken, steps, self._clock())
        return taken

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

    def forget(self, worker: int, indices: Iterable[int]) -> None:
        """These are no longer in flight there, and nothing is learnt from them."""
        if self._steps is not None:
            self._in_flight.forget(worker, indices, self._steps, self._clock())

    def lose(self, worker: int, indices: Iterable[int]) -> list[int]:
        """Others must do what this one would have done; of the suspects, the longest are tried first."""
        self._in_flight.lose(worker)
        if self._steps is not None:
            self._steps.lose(worker)
        self._limits.pop(worker, None)
        self._died.add(worker)
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
            self._died.discard(asking.worker)
            self._stale = True
        return self._steps

    def _keep_plan(self, asking: Asking, steps: StepTime) -> None:
        if not steps.measured:
            self._in_flight.measure(steps, self._clock())
        if self._stale or self._since_plan >= self._every:
            self._replan(asking, steps)

    def _replan(self, asking: Asking, steps: StepTime) -> None:
        now = self._clock()
        steps.fit()
        if self._guess.refresh(*self._in_flight.progress(steps, now)):
            pending = self._pending.remaining()
            self._pending = Ranked(pending, self._guess.medians(pending))
        task = self._task(asking, steps, now)
        self._plan = make_plan(task, now)
        if self._unsure or not steps.measured:  # no batch is kept small for what is only believed
            self._plan.caps.update(self._limits)
        self._contexts = {load.worker: load.context for load in task.loads}
        self._budgets = {load.worker: self._budget(load.worker, steps) for load in task.loads}
        self._stale = False
        self._since_plan = 0

    def _task(self, asking: Asking, steps: StepTime, now: float) -> Task:
        """What is left, as the plan wants to know it."""
        again = np.sort(self._guess.medians(asking.waiting))
        pending = self._pending.rising()
        lengths = np.sort(np.concatenate([pending, again])) if len(again) else pending
        prompt = self._prompt_tokens / max(1, len(lengths))
        total = float(lengths.sum())
        self._context = prompt + (float((lengths**2).sum()) / total / 2 if total else 0.0)
        self._horizon = (total + self._in_flight_work) / max(1, sum(self._limits.values()))
        loads = [self._load(worker, limit, steps, now) for worker, limit in self._limits.items()]
        absent = max(0, asking.workers - len(loads) - len(self._died))
        loads += [Load(-1 - n, asking.limit, context=self._context) for n in range(absent)]
        self._in_flight_work = sum(load.work for load in loads)
        last = float(lengths[len(lengths) // 5]) if len(lengths) else 0.0
        return Task(
            loads=loads,
            pending=pending,
            work=self._guess.mean_of_median() * total + self._in_flight_work,
            steps=steps,
            context=self._context,
            prompt=prompt,
            tail=last * self._guess.surprise(),
            again=again,
        )

    def _budget(self, worker: int, steps: StepTime, batch: int | None = None) -> float:
        """How many tokens of one request this worker can still do before the planned end.

        Where lengths are unsure, only a slow worker leaves the longest to others.
        """
        if not steps.measured or (self._unsure and steps.scale(worker) < _SLOW):
            return np.inf
        cap = max(1, batch or self._plan.caps.get(worker, 1))
        context = self._contexts.get(worker, self._context)
        return (self._plan.end - self._clock()) / steps.seconds(worker, cap, context) * LENIENT

    def _load(self, worker: int, limit: int, steps: StepTime, now: float) -> Load:
        mine, done = self._in_flight.of(worker, steps, now)
        means, medians = self._guess.rests(mine, done)
        work = float(means.sum())
        area = float((means * (self._prompts[mine] + done + means / 2)).sum())
        cap = min(limit, self._plan.caps.get(worker, limit))
        others = max(0.0, cap * self._horizon - work)  # tokens that will take the slots of these
        context = (area + others * self._context) / max(1.0, work + others)
        return Load(
            worker=worker,
            limit=limit,
            rests=np.sort(medians),
            work=work,
            context=context,
            again=self._room_again.get(worker, SUSPECTS_TOGETHER),
        )

    def _choose(self, asking: Asking, steps: StepTime) -> Indices:
        late = self._take_late(asking, steps)
        cap = min(asking.limit, self._plan.caps.get(asking.worker, asking.limit))
        room = cap - asking.in_flight - len(late)
        if room <= 0:
            return late
        more = self._take_more(asking, steps, room)
        return np.concatenate([late, more]) if len(late) else more

    def _take_late(self, asking: Asking, steps: StepTime) -> Indices:
        """A lane takes what is too long for full batches at once, though it has more in flight than its cap."""
        room = min(self._plan.lanes.pop(asking.worker, 0), asking.limit - asking.in_flight)
        if room <= 0:
            return NOTHING
        full = self._budget(asking.worker, steps, asking.limit) / LENIENT
        return self._pending.take_between(room, full, self._budget(asking.worker, steps))

    def _take_more(self, asking: Asking, steps: StepTime, room: int) -> Indices:
        if asking.worker not in self._dealt:
            return self._deal(asking, room)
        if self._plan.quotas is not None:
            return self._up_to(room, asking.worker, self._plan.quotas)
        return self._pending.take(room, self._budget(asking.worker, steps))

    def _choose_again(self, back: Back, asking: Asking, steps: StepTime) -> Indices:
        """A worker whose batch shrinks takes those that are too long for full batches at once, beyond its cap."""
        worker, cap = asking.worker, min(asking.limit, self._plan.caps.get(asking.worker, 1))
        # what came back waits for room, and should not wait for the next plan as well
        full = self._budget(worker, steps, asking.limit) * _SOON
        reach = max(self._plan.wards.get(worker, 0.0), self._budget(worker, steps, cap) * _SOON)
        late = back.between(full, reach)[: min(asking.again, asking.limit - asking.in_flight)]
        room = min(asking.again, cap - asking.in_flight) - len(late)
        return np.concatenate([late, back.between(0.0, full)[: max(0, room)]])

    def _deal(self, asking: Asking, room: int) -> Indices:
        """The first fill: what only this worker can end in time, and an even share of the rest.

        So no worker gets all of the longest, whose KV cache would make its steps longer than all others.
        """
        self._dealt.add(asking.worker)
        others = [b for worker, b in self._budgets.items() if worker not in self._dealt]
        mine, theirs = self._budgets.get(asking.worker, 0.0), max(others, default=np.inf)
        lane = NOTHING
        if mine > _LANE * theirs:
            lane = self._pending.take_between(room, theirs / LENIENT, mine)
        elif others and mine * _LANE >= theirs:
            mine = max(mine, theirs)
        room -= len(lane)
        if self._plan.quotas is not None:
            mine = np.inf
            room = min(room, -(-len(self._pending) // (len(others) + 1)))
        return np.concatenate([lane, self._pending.take_every(len(others) + 1, room, mine)])

    def _try(self, asking: Asking, probe: Probe) -> Indices:
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
