"""An engine in virtual time: slots, a KV cache, and steps whose time a step model gives."""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from typing import Literal

from msgspec import Struct

from trt_dp.simulate.step_models import Linear, StepModel, Steps, alike

Admission = Literal["reserve", "optimistic"]
_NEVER = float("inf")


class EngineShape(Struct, frozen=True, kw_only=True):
    """What an engine can hold, and how fast it is; `speed` 0.7 takes 1/0.7 of the time for each step."""

    model: StepModel = Linear()
    slots: int = 256
    lookahead: int = 0
    token_budget: int = 8192
    prefills: bool = False
    prefills_alone: bool = False  # answers wait while prompts are read
    kv_tokens: int | None = None
    admission: Admission = "reserve"
    prefix_cache_tokens: int = 0
    speed: float = 1.0

    @property
    def capacity(self) -> int:
        """How many requests it wants in flight at once."""
        return self.slots + self.lookahead


class Demand(Struct, frozen=True):
    """One request as an engine meets it: `limit` is its max_tokens, `output` where it really ends."""

    index: int
    prompt: int
    output: int
    limit: int
    prefix: int = -1
    prefix_tokens: int = 0


class Spent(Struct):
    """Where an engine's time went: computing, of that what a full batch would have needed, and what was for nothing."""

    busy: float = 0.0
    useful: float = 0.0
    repeated: float = 0.0
    preemptions: int = 0
    prefilled: int = 0
    steps: int = 0
    last: float = 0.0
    speed: float = 1.0


class _Sequence:
    """A request in an engine: waiting, prefilling, or decoding until its end step."""

    __slots__ = ("decoded", "demand", "end", "prefill", "reserved", "started_at")

    def __init__(self, demand: Demand) -> None:
        self.demand = demand
        self.decoded = 0
        self.end = 0
        self.prefill = 0
        self.reserved = 0
        self.started_at = 0.0


class Engine:
    """Requests wait, are admitted in the order in which they came, decode a token per step, and end.

    `clock` is the end of the step that runs, so it may be ahead of the world's time by less than a step:
    whoever comes meanwhile is admitted then.
    """

    def __init__(self, shape: EngineShape, now: float = 0.0) -> None:
        self.shape = shape
        self.speed = shape.speed
        self.clock = now
        self.spent = Spent(speed=shape.speed)
        self._step = 0
        self._kv = self._reserved = 0
        self._waiting: deque[_Sequence] = deque()
        self._prefilling: deque[_Sequence] = deque()
        self._running: OrderedDict[int, _Sequence] = OrderedDict()
        self._ends: list[tuple[int, int]] = []
        self._cached: OrderedDict[int, int] = OrderedDict()
        self._cached_tokens = 0

    @property
    def batch(self) -> int:
        """How many sequences decode."""
        return len(self._running)

    def submit(self, demand: Demand) -> None:
        """Take a request; `settle` admits it."""
        self._waiting.append(_Sequence(demand))

    def settle(self, now: float) -> None:
        """Bring the engine to `now`: finish the step that runs, and admit who waits.

        If the next event is at the end of that step, it is left to `advance`, which admits as well.
        """
        if not self._running and not self._prefilling:
            self.clock = max(self.clock, now)
        elif self.clock < now:
            steps = self._steps_until(now)
            if steps == self._steps_to_event():
                return
            self._run(steps)
        self._admit()

    def next_event(self) -> float:
        """When a sequence ends, or something else happens that changes the batch; never, if nothing runs."""
        if not self._running and not self._prefilling:
            return _NEVER
        return self.clock + self._seconds(self._steps_to_event())

    def advance(self) -> list[tuple[int, float]]:
        """Go to the next event; returns who ended there, each with the seconds since it was admitted."""
        self._run(self._steps_to_event())
        ended = self._collect()
        if self._overflows():
            self._preempt()
        self._admit()
        return ended

    def cancel(self, index: int, now: float) -> None:
        """Forget a request; what was done on it was for nothing."""
        self.settle(now)
        if sequence := self._running.pop(index, None):
            self._kv -= (
                sequence.demand.prompt + sequence.demand.output - (sequence.end - self._step)
            )
            self._reserved -= sequence.reserved
            self._waste(sequence)
        self._waiting = deque(one for one in self._waiting if one.demand.index != index)
        self._drop_prefilling(index)
        self._admit()

    def _drop_prefilling(self, index: int) -> None:
        gone = [one for one in self._prefilling if one.demand.index == index]
        for sequence in gone:
            self._prefilling.remove(sequence)
            self._kv -= sequence.demand.prompt + sequence.decoded
            self._reserved -= sequence.reserved

    def _waste(self, sequence: _Sequence) -> None:
        done = sequence.demand.output - (sequence.end - self._step)
        self.spent.repeated += done * full_token_seconds(self.shape) / self.speed

    def die(self, now: float) -> None:
        """All that it did on what is not finished was for nothing."""
        self.settle(now)
        for sequence in self._running.values():
            self._waste(sequence)

    # ── time ──────────────────────────────────────────────────────────────────────────────────

    def _steps_to_event(self) -> int:
        if self._prefilling:
            return 1
        steps = self._ends_first() - self._step
        room = self._steps_until_full()
        return max(1, min(steps, room))

    def _ends_first(self) -> int:
        while True:
            end, index = self._ends[0]
            sequence = self._running.get(index)
            if sequence is not None and sequence.end == end:
                return end
            heapq.heappop(self._ends)

    def _steps_until_full(self) -> int:
        limit = self.shape.kv_tokens
        if limit is None or self.shape.admission == "reserve":
            return 1 << 60
        return max(1, (limit - self._kv) // max(1, len(self._running)))

    def _steps_until(self, now: float) -> int:
        """The least number of steps after which the clock is not behind `now`, and no event is passed."""
        most = self._steps_to_event()
        wanted = now - self.clock
        low, high = 1, most
        guess = int(wanted / self._seconds(1)) + 1
        if guess < high and self._seconds(guess) >= wanted:
            high = guess
        while low < high:
            middle = (low + high) // 2
            if self._seconds(middle) >= wanted:
                high = middle
            else:
                low = middle + 1
        return low

    def _seconds(self, count: int) -> float:
        return self.shape.model.seconds(self._steps(count)) / self.speed

    def _steps(self, count: int) -> Steps:
        prefill = 0
        if self._prefilling:
            room = self.shape.token_budget - len(self._running)
            prefill = min(room, sum(sequence.prefill for sequence in self._prefilling))
        if self._prefilling and self.shape.prefills_alone:
            return alike(count, 0, 0, prefill)
        return alike(count, len(self._running), self._kv, prefill)

    def _run(self, count: int) -> None:
        steps = self._steps(count)
        seconds = self.shape.model.seconds(steps) / self.speed
        self.clock += seconds
        self.spent.busy += seconds
        self.spent.last = self.clock
        self.spent.prefilled += steps.prefilled
        self.spent.steps += count
        self._step += count if steps.decoded or not self._prefilling else 0
        self._kv += steps.decoded
        if self._prefilling:
            self._prefill(steps.prefilled)

    def _prefill(self, tokens: int) -> None:
        while self._prefilling and tokens:
            sequence = self._prefilling[0]
            piece = min(tokens, sequence.prefill)
            sequence.prefill -= piece
            tokens -= piece
            if not sequence.prefill:
                self._prefilling.popleft()
                self._kv += 1  # the prompt gives the first token
                self._decode(sequence, sequence.demand.output - sequence.decoded - 1)

    # ── sequences ─────────────────────────────────────────────────────────────────────────────

    def _decode(self, sequence: _Sequence, steps: int) -> None:
        """It has `steps` to go; a sequence whose prompt gave its only token ends at once."""
        index = sequence.demand.index
        sequence.end = self._step + max(0, steps)
        self._running[index] = sequence
        heapq.heappush(self._ends, (sequence.end, index))

    def _collect(self) -> list[tuple[int, float]]:
        ended = []
        while self._ends and self._ends[0][0] <= self._step:
            end, index = heapq.heappop(self._ends)
            sequence = self._running.get(index)
            if sequence is None or sequence.end != end:
                continue
            del self._running[index]
            self._release(sequence)
            self.spent.useful += sequence.demand.output * full_token_seconds(self.shape)
            ended.append((index, self.clock - sequence.started_at))
        return ended

    def _release(self, sequence: _Sequence) -> None:
        self._kv -= sequence.demand.prompt + sequence.demand.output
        self._reserved -= sequence.reserved

    def _admit(self) -> None:
        while self._waiting and self._has_room(self._waiting[0]):
            sequence = self._waiting.popleft()
            self._start(sequence)

    def _has_room(self, sequence: _Sequence) -> bool:
        if len(self._running) + len(self._prefilling) >= self.shape.slots:
            return False
        limit = self.shape.kv_tokens
        if limit is None or not (self._running or self._prefilling):
            return True
        demand = sequence.demand
        if self.shape.admission == "reserve":
            return self._reserved + demand.prompt + demand.limit <= limit
        room = limit - self._kv - len(self._running)
        return demand.prompt + sequence.decoded + 1 <= room

    def _start(self, sequence: _Sequence) -> None:
        demand, again = sequence.demand, sequence.decoded
        sequence.started_at = sequence.started_at or self.clock
        sequence.reserved = demand.prompt + demand.limit
        self._reserved += sequence.reserved
        self._kv += demand.prompt + again
        if self.shape.prefills:
            sequence.prefill = max(1, demand.prompt + again - self._known(demand))
            self._prefilling.append(sequence)
        else:
            self._decode(sequence, demand.output - again)

    def _known(self, demand: Demand) -> int:
        """How many of the prompt's tokens the prefix cache holds; from now on it holds this prefix."""
        if demand.prefix < 0 or not self.shape.prefix_cache_tokens:
            return 0
        hit = self._cached.pop(demand.prefix, None)
        self._cached[demand.prefix] = demand.prefix_tokens
        if hit is not None:
            return hit
        self._cached_tokens += demand.prefix_tokens
        while self._cached_tokens > self.shape.prefix_cache_tokens and len(self._cached) > 1:
            _, tokens = self._cached.popitem(last=False)
            self._cached_tokens -= tokens
        return 0

    def _overflows(self) -> bool:
        limit = self.shape.kv_tokens
        if limit is None or self.shape.admission == "reserve" or len(self._running) < 2:
            return False
        return self._kv + len(self._running) > limit

    def _preempt(self) -> None:
        """The youngest loses its cache, and is computed again once there is room."""
        while self._overflows():
            _, sequence = self._running.popitem()
            sequence.decoded = sequence.demand.output - (sequence.end - self._step)
            self._kv -= sequence.demand.prompt + sequence.decoded
            self._reserved -= sequence.reserved
            self.spent.preemptions += 1
            self._waiting.appendleft(sequence)


def full_token_seconds(shape: EngineShape) -> float:
    """Seconds that a token takes in a full batch, at speed 1."""
    steps = alike(1, shape.slots, 0)
    return shape.model.seconds(steps) / shape.slots
