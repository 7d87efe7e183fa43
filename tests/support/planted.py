"""A run in virtual time with causes of loss planted in it: what the loss attribution must find.

It does not prove anything about real engines: every step takes base_seconds + per_request_seconds x batch.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from trt_dp.report.columns import Columns, StateChange, Wasted
from trt_dp.report.losses import Observed
from trt_dp.report.schema import Death


@dataclass
class Plan:
    """A run: what there is to do, by whom, and what goes wrong."""

    lengths: list[int]
    workers: int = 4
    slots: int = 16
    base_seconds: float = 0.02
    per_request_seconds: float = 0.0
    prefill_seconds: float = 0.0
    ready_at: dict[int, float] = field(default_factory=dict)
    speeds: dict[int, float] = field(default_factory=dict)
    deaths: list[tuple[int, float, float]] = field(
        default_factory=list
    )  # worker, when, for how long
    pause: float = 0.0  # between a free slot and the next request in it, while some are pending
    index: float = 0.0
    load: float = 0.0
    sort: float = 0.0


@dataclass
class Running:
    index: int
    sent: float
    begins: float
    first: float
    left: int
    again: bool = False


class World:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.pending = deque(range(len(plan.lengths)))
        self.running: list[list[Running]] = [[] for _ in range(plan.workers)]
        self.rows: list[tuple] = []
        self.lost: list[tuple] = []
        self.tried: set[int] = set()
        self.states: list[StateChange] = []
        self.deaths: list[Death] = []
        self.last_sent = 0.0
        self.free_at = [[0.0] * plan.slots for _ in range(plan.workers)]
        self.dead_until = [0.0] * plan.workers

    def run(self) -> Observed:
        """Until every request is answered."""
        zero = self.plan.index + self.plan.load
        events = []
        for worker in range(self.plan.workers):
            ready = zero + self.plan.ready_at.get(worker, 0.0)
            self.states += [
                StateChange(worker, "starting", self.plan.index),
                StateChange(worker, "ready", ready),
            ]
            heapq.heappush(events, (ready, worker, "step"))
        for worker, when, seconds in self.plan.deaths:
            heapq.heappush(events, (zero + when, worker, f"die {seconds}"))
        while len(self.rows) < len(self.plan.lengths):
            now, worker, what = heapq.heappop(events)
            if what.startswith("die"):
                self.die(now, worker, float(what.split()[1]))
            elif now < self.dead_until[worker] - 1e-9:
                heapq.heappush(events, (self.dead_until[worker], worker, "step"))
            else:
                heapq.heappush(events, (self.step(now, worker), worker, "step"))
        return self.observed()

    def die(self, now: float, worker: int, seconds: float) -> None:
        for one in self.running[worker]:
            self.lost.append((worker, one.sent, now))
            self.pending.append(one.index)
            self.tried.add(one.index)
        self.deaths.append(
            Death(worker, "it was killed by SIGKILL", now, len(self.running[worker]))
        )
        self.running[worker] = []
        self.dead_until[worker] = now + seconds
        self.states += [
            StateChange(worker, "starting", now),
            StateChange(worker, "ready", now + seconds),
        ]

    def step(self, now: float, worker: int) -> float:
        """One step that began at `now`; returns when the next begins."""
        mine = self.running[worker]
        while self.pending and len(mine) < self.plan.slots:
            index = self.pending.popleft()
            begins = now + (self.plan.pause if now > self.plan.index + self.plan.load else 0.0)
            first = begins + self.plan.prefill_seconds
            mine.append(Running(index, now, begins, first, self.plan.lengths[index]))
            self.last_sent = now
        batch = len(mine)
        seconds = self.plan.base_seconds + self.plan.per_request_seconds * batch
        end = now + max(seconds, 0.01) / self.plan.speeds.get(worker, 1.0)
        for one in mine:
            one.left -= one.first <= now + 1e-9
        for one in [one for one in mine if not one.left]:
            mine.remove(one)
            tokens = self.plan.lengths[one.index]
            self.rows.append(
                (worker, one.sent, one.begins, one.first, end, tokens, one.index in self.tried)
            )
        return end

    def observed(self) -> Observed:
        worker, sent, began, first, end, tokens, again = (
            np.array(column) for column in zip(*self.rows, strict=True)
        )
        plan, last = self.plan, max(row[4] for row in self.rows)
        zero = plan.index + plan.load
        lost = np.array(self.lost or np.empty((0, 3)))
        return Observed(
            phases={
                "index": plan.index, "start": 0.0, "load": plan.load,
                "feed": self.last_sent - zero, "drain": last - self.last_sent,
                "sort": plan.sort, "stop": 0.0,
            },
            began=0.0,
            workers=plan.workers,
            columns=[Columns(
                worker=worker.astype(np.int32), sent_at=sent, began=began, first_token_at=first, made_from=first,
                answered_at=end, input_tokens=np.full(len(end), 10), output_tokens=tokens,
                failed=np.zeros(len(end), np.bool_), again=again.astype(np.bool_),
            )],
            wasted=Wasted(lost[:, 0].astype(np.int32), lost[:, 1], lost[:, 2]),
            states=sorted(self.states, key=lambda change: change.at_seconds),
            deaths=self.deaths,
        )  # fmt: skip


def observe(plan: Plan) -> Observed:
    """What a coordinator would have seen of this run."""
    return World(plan).run()
