"""The event loop in virtual time: it does to a dispatcher what a session does, and to engines what time does."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from functools import partial
from typing import Literal, Protocol

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from trt_dp.coordinator.order.contract import Answered
from trt_dp.coordinator.queue.doubles import Hold
from trt_dp.coordinator.remaining import Progress
from trt_dp.simulate.engine import Demand, Engine, EngineShape, Spent
from trt_dp.simulate.shapes import Workload

TURN_SECONDS = 0.25
_NEVER = float("inf")
Indices = NDArray[np.int64]


class Fault(Struct, frozen=True):
    """What happens to a worker during a run: it crashes and comes back later, or its speed changes."""

    worker: int
    at: float
    kind: Literal["crash", "speed"] = "crash"
    back_after: float = 60.0
    speed: float = 1.0


class Setting(Struct, frozen=True, kw_only=True):
    """The engines of a run, when each is ready, and what happens to them."""

    shapes: tuple[EngineShape, ...]
    ready_at: tuple[float, ...] = ()
    faults: tuple[Fault, ...] = ()


class Feeding(Protocol):
    """The part of the Dispatcher that a run needs."""

    @property
    def unfinished(self) -> int:
        """How many requests are not completed."""

    def came_up(self, worker: int, kv_tokens: int) -> None:
        """A worker is ready; its KV cache holds so many tokens, 0 if there is no limit."""

    def take(self, worker: int, limit: int) -> Indices:
        """The next requests of a worker."""

    def copy(self, worker: int, limit: int) -> Indices:
        """Copies for a worker that gets nothing else."""

    def beaten(self, worker: int, indices: Iterable[int]) -> list[bool]:
        """Which of these were answered elsewhere before."""

    def finish(self, worker: int, indices: Iterable[int]) -> list[Hold]:
        """These are answered; returns which copies that beats."""

    def learn(self, answered: Answered) -> None:
        """So long were these, and so long did they take."""

    def lose(self, worker: int) -> list[int]:
        """The worker died."""


class Clock:
    """The world's time: what an order asks for the time."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """The seconds since the run began."""
        return self.now


class Simulated(Struct, frozen=True, kw_only=True):
    """What came of a simulated run."""

    seconds: float
    completed: NDArray[np.float64]
    spent: list[Spent]
    alive_seconds: list[float]
    given_up: int = 0
    copies: int = 0
    copies_won: int = 0


class World:
    """Engines around a dispatcher; `run` continues until nothing is left."""

    def __init__(self, work: Workload, setting: Setting, clock: Clock) -> None:
        self._work = work
        self._setting = setting
        self._clock = clock
        self._engines: dict[int, Engine] = {}
        self._dead_spent: list[Spent] = []
        self._version = [0] * len(setting.shapes)
        self._events: list[tuple[float, int, int, Callable[[], None] | None, int]] = []
        self._count = 0
        self._completed = np.full(len(work), np.nan)
        self._down = [0.0] * len(setting.shapes)
        self._given_up = self._copies = self._copies_won = 0
        self._copied_by: dict[int, int] = {}
        self._sent_at = np.zeros(len(work))
        self._tokens, self._token_seconds = 0, 0.0
        self.watch: Callable[[Progress, NDArray[np.bool_]], None] | None = None
        self._wants: set[int] = set()

    def run(self, feeding: Feeding) -> Simulated:
        """Feed the engines until every request is completed."""
        self._feeding = feeding
        self._schedule()
        while feeding.unfinished:
            self._turn()
        end = self._clock.now
        spent = [*self._dead_spent, *(engine.spent for engine in self._engines.values())]
        alive = [end - down for down in self._down]
        return Simulated(
            seconds=end,
            completed=self._completed,
            spent=spent,
            alive_seconds=alive,
            given_up=self._given_up,
            copies=self._copies,
            copies_won=self._copies_won,
        )

    def _schedule(self) -> None:
        ready = self._setting.ready_at or (0.0,) * len(self._setting.shapes)
        for worker, at in enumerate(ready):
            self._down[worker] += at
            self._at(at, partial(self._start, worker))
        for fault in self._setting.faults:
            self._at(fault.at, partial(self._strike, fault))
        self._at(TURN_SECONDS, self._tick)

    def _at(self, when: float, what: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (when, 0, self._count, what, 0))

    def _turn(self) -> None:
        when, worker, _, what, version = heapq.heappop(self._events)
        if what is not None:
            self._clock.now = max(self._clock.now, when)
            what()
        elif version == self._version[worker] and worker in self._engines:
            self._clock.now = max(self._clock.now, when)
            self._step(worker)

    def _start(self, worker: int) -> None:
        shape = self._setting.shapes[worker]
        self._engines[worker] = Engine(shape, self._clock.now)
        self._feeding.came_up(worker, shape.kv_tokens or 0)
        self._feed(worker)

    def _tick(self) -> None:
        """What a session does a few times a second: see which workers may have more."""
        for worker in sorted(self._wants):
            if worker in self._engines:
                self._feed(worker)
        if self.watch:
            self.watch(self._progress(), np.isfinite(self._completed))
        self._at(self._clock.now + TURN_SECONDS, self._tick)

    def _progress(self) -> Progress:
        completed = np.isfinite(self._completed)
        running = np.flatnonzero((self._sent_at > 0) & ~completed)
        return Progress(
            now=self._clock.now,
            began=0.0,
            was_sent=self._sent_at > 0,
            running=running,
            running_since=self._sent_at[running],
            tokens=self._tokens,
            wanted=int(self._work.limits[completed].sum()),
            token_seconds=self._token_seconds,
        )

    def _step(self, worker: int) -> None:
        ended = self._engines[worker].advance()
        if not ended:
            self._expect(worker)
            return
        indices = [index for index, _ in ended]
        self._completed[indices] = self._clock.now
        beaten = self._feeding.finish(worker, indices)
        self._copies_won += sum(self._copied_by.get(index) == worker for _, index in beaten)
        self._feeding.learn(self._answered(worker, ended))
        for loser, index in beaten:
            self._engines[loser].cancel(index, self._clock.now)
            self._feeding.beaten(loser, [index])
        for one in {worker, *(loser for loser, _ in beaten)}:
            self._feed(one)

    def _answered(self, worker: int, ended: list[tuple[int, float]]) -> Answered:
        places = np.array([index for index, _ in ended])
        self._tokens += int(self._work.outputs[places].sum())
        self._token_seconds += sum(seconds for _, seconds in ended)
        return Answered(
            worker=worker,
            indices=places,
            tokens=self._work.outputs[places],
            seconds=np.array([seconds for _, seconds in ended]),
        )

    def _feed(self, worker: int) -> None:
        engine = self._engines[worker]
        taken = self._feeding.take(worker, engine.shape.capacity).tolist() or self._copy(worker)
        self._sent_at[taken] = max(self._clock.now, 1e-9)
        for index in taken:
            engine.submit(self._demand(index))
        if len(taken):
            self._wants.discard(worker)
        else:
            self._wants.add(worker)
        engine.settle(self._clock.now)
        self._expect(worker)

    def _copy(self, worker: int) -> list[int]:
        capacity = self._engines[worker].shape.capacity
        copied: list[int] = self._feeding.copy(worker, capacity).tolist()
        self._copies += len(copied)
        self._copied_by.update(dict.fromkeys(copied, worker))
        return copied

    def _expect(self, worker: int) -> None:
        self._version[worker] += 1
        when = self._engines[worker].next_event()
        if when < _NEVER:
            self._count += 1
            entry = (when, worker, self._count, None, self._version[worker])
            heapq.heappush(self._events, entry)

    def _demand(self, index: int) -> Demand:
        work = self._work
        return Demand(
            index=index,
            prompt=int(work.prompts[index]),
            output=int(work.outputs[index]),
            limit=int(work.limits[index]),
            prefix=int(work.prefixes[index]),
            prefix_tokens=work.prefix_tokens,
        )

    def _strike(self, fault: Fault) -> None:
        engine = self._engines.get(fault.worker)
        if engine is None:
            return
        if fault.kind == "speed":
            engine.settle(self._clock.now)
            engine.speed = fault.speed
            self._expect(fault.worker)
            return
        engine.die(self._clock.now)
        self._dead_spent.append(engine.spent)
        del self._engines[fault.worker]
        self._given_up += len(self._feeding.lose(fault.worker))
        back = self._clock.now + fault.back_after
        self._down[fault.worker] += fault.back_after
        self._at(back, lambda: self._start(fault.worker))
        for worker in sorted(self._engines):
            self._feed(worker)
