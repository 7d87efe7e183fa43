"""Measures how long an engine's steps take, so that the simulator can tell how long a run will."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from trt_dp.engines import Engine
from trt_dp.errors import UNREADABLE, EngineRefused, RequestRefused, UsageError
from trt_dp.simulate.engine import Demand, EngineShape
from trt_dp.simulate.engine import Engine as SimulatedEngine
from trt_dp.simulate.step_models import Linear, Steps
from trt_dp.system import safe_files
from trt_dp.system.reasons import why
from trt_dp.types import Request, Result, Sampling

Say = Callable[["Trial"], None]
Floats = NDArray[np.float64]
_NEVER = float("inf")

_VOCABULARY = 100  # every model has so many ids
_FEWEST = 5
_SILENT_SECONDS = 600.0
_STEP_TOKENS = 512.0
_FLOW = 3
_TURNS = 2


class Trial(Struct, frozen=True, kw_only=True):
    """So many requests, and how long all of them took: equal ones at once, or as a run has them.

    With `in_flight`, answers are of different length, `output_tokens` on average, and as one ends another begins.
    """

    requests: int
    input_tokens: int
    output_tokens: int
    seconds: float = 0.0
    in_flight: int = 0

    def outputs(self) -> list[int]:
        """The tokens of each answer."""
        if not self.in_flight:
            return [self.output_tokens] * self.requests
        drawn = np.random.default_rng(self.requests).exponential(self.output_tokens, self.requests)
        return [int(one) for one in np.clip(drawn, 1, 4 * self.output_tokens)]

    def tokens(self) -> int:
        """All tokens, of prompts and answers."""
        return self.requests * (self.input_tokens + self.output_tokens)

    def steps(self) -> Steps:
        """The steps that they take where all are decoded together."""
        each, prompt, count = self.output_tokens, self.input_tokens, self.requests
        return Steps(
            count=each + max(0, round(count * prompt / _STEP_TOKENS) - 1),
            decoded=count * each,
            prefilled=count * prompt,
            kv_read=count * (prompt * each + each * (each - 1) / 2),
        )


class Subject(Struct, frozen=True, kw_only=True):
    """The engine that is measured: its name, the GPUs of a worker, the full batch, and what it wants besides."""

    engine: str
    devices: int
    slots: int
    ahead: int = 0


class Calibration(Struct, frozen=True, kw_only=True):
    """What was measured: the model of a step, the full batch, and how well the model tells the trials."""

    engine: str
    devices: int  # GPUs of the worker; 0 where it ran on a CPU
    slots: int
    model: Linear
    median_error: float
    worst_error: float
    trials: list[Trial]
    ahead: int = 0  # requests that it wants in flight besides the full batch
    reads_alone: bool = False  # answers wait while it reads prompts


def ignore(_trial: Trial) -> None:
    """Nobody wants to know."""


def plan_trials(slots: int, context: int | None) -> list[Trial]:
    """Batches from one request to a full one, with short and longer prompts and answers that fit the model."""
    room = min(context or 1024, 1024)
    sizes = [1 << power for power in range(slots.bit_length()) if 1 << power < slots] + [slots]
    shapes = [(16, 16), (16, 64), (min(256, room // 2), 16)]
    equal = [
        Trial(requests=size, input_tokens=prompt, output_tokens=output)
        for prompt, output in shapes
        for size in sizes
        if prompt + output <= room
    ]
    return equal + _plan_flows(slots, room)


def _plan_flows(slots: int, room: int) -> list[Trial]:
    """What a run is like: as one answer ends, another begins."""
    return [
        Trial(requests=_FLOW * slots, input_tokens=prompt, output_tokens=output, in_flight=slots)
        for prompt, output in ((16, 32), (min(128, room // 2), 16))
        if prompt + 4 * output <= room
    ]


def measure(
    engine: Engine, trials: Sequence[Trial], seconds: float, say: Say, before: Say = ignore
) -> list[Trial]:
    """Run the trials, the smallest first and twice, because a first run warms up; leaves out what takes too long.

    `before` hears of each before it runs, `say` with its time after that.
    """
    until = time.monotonic() + seconds
    rising = sorted(trials, key=Trial.tokens)
    pace = run_trial(engine, rising[0], 0) / rising[0].tokens()
    measured: list[Trial] = []
    for number, trial in enumerate(rising, 1):
        if len(measured) >= _FEWEST and time.monotonic() + _TURNS * pace * trial.tokens() > until:
            continue
        before(trial)
        # twice: whatever else the machine does only makes it slower
        least = min(run_trial(engine, trial, 2 * number + turn) for turn in range(_TURNS))
        took = msgspec.structs.replace(trial, seconds=least)
        pace = took.seconds / took.tokens()
        measured.append(took)
        say(took)
    return measured


def fit(trials: Sequence[Trial]) -> Linear:
    """The linear step model that tells these trials best, relative to what each took; no part is negative."""
    rows = np.array([_row(trial.steps()) for trial in trials])
    seconds = np.array([trial.seconds for trial in trials])
    parts = _not_negative(rows / seconds[:, None])
    return Linear(*(float(part) for part in parts))


def errors(found: Calibration, trials: Sequence[Trial]) -> list[float]:
    """How far the model is from each trial, as a part of what it took."""
    return [abs(predicted(found, trial) / trial.seconds - 1) for trial in trials]


def predicted(found: Calibration, trial: Trial) -> float:
    """The seconds of a trial, by the model."""
    if not trial.in_flight:
        return found.model.seconds(trial.steps())
    engine = SimulatedEngine(shape_of(found))
    for index, output in enumerate(trial.outputs()):
        engine.submit(Demand(index, trial.input_tokens, output, output))
    engine.settle(0.0)
    while engine.next_event() < _NEVER:
        engine.advance()
    return engine.clock


def shape_of(found: Calibration, speed: float = 1.0) -> EngineShape:
    """The engine as the simulator knows it."""
    return EngineShape(
        model=found.model,
        slots=found.slots,
        lookahead=found.ahead,
        prefills=found.model.per_prefill_token > 0,
        prefills_alone=found.reads_alone,
        token_budget=max(int(_STEP_TOKENS), found.slots + 1),
        speed=speed,
    )


def calibration(subject: Subject, trials: list[Trial]) -> Calibration:
    """The result of these trials: whether prompts are read alone, and the exact pace, are told by those in flow."""
    together = _scaled(_calibrated(subject, trials, reads_alone=False))
    alone = _scaled(_calibrated(subject, trials, reads_alone=True))
    return min(together, alone, key=lambda found: max(errors(found, _flows(found))))


def _calibrated(subject: Subject, trials: list[Trial], *, reads_alone: bool) -> Calibration:
    return Calibration(
        engine=subject.engine,
        devices=subject.devices,
        slots=subject.slots,
        model=fit([trial for trial in trials if not trial.in_flight]),
        median_error=0.0,
        worst_error=0.0,
        trials=trials,
        ahead=subject.ahead,
        reads_alone=reads_alone,
    )


def _flows(found: Calibration) -> list[Trial]:
    return [trial for trial in found.trials if trial.in_flight] or found.trials


def _scaled(found: Calibration) -> Calibration:
    """With steps that are so much longer or shorter that trials in flow take what they took."""
    ratios = [trial.seconds / predicted(found, trial) for trial in _flows(found)]
    by = float(np.exp(np.mean(np.log(ratios))))
    model = Linear(*(by * part for part in msgspec.structs.astuple(found.model)))
    scaled = msgspec.structs.replace(found, model=model)
    wrong = errors(scaled, scaled.trials)
    return msgspec.structs.replace(scaled, median_error=median(wrong), worst_error=max(wrong))


def load(path: Path) -> Calibration:
    """A calibration that was kept; raises UsageError where there is none."""
    try:
        return msgspec.json.decode(safe_files.read(path), type=Calibration)
    except (OSError, *UNREADABLE) as error:
        reason = error.strerror if isinstance(error, OSError) else why(error)
        msg = f"{path} is no calibration of an engine ({reason}): make one with trt-dp calibrate"
        raise UsageError(msg) from error


def run_trial(engine: Engine, trial: Trial, number: int) -> float:
    """The seconds of a trial; each request has its own ids, so that no cache knows its prompt."""
    dice = np.random.default_rng(number)
    prompts = dice.integers(1, _VOCABULARY, (trial.requests, trial.input_tokens))
    started = time.perf_counter()
    waiting = deque(enumerate(zip(prompts, trial.outputs(), strict=True)))
    left, heard, in_flight = trial.requests, started, 0
    most = engine.capacity if trial.in_flight else trial.requests
    while left:
        while waiting and in_flight < most:
            index, (ids, outputs) = waiting.popleft()
            _submit(engine, index, ids, outputs)
            in_flight += 1
        results = engine.step()
        heard = time.perf_counter() if results else heard
        if time.perf_counter() - heard > _SILENT_SECONDS:
            msg = f"the engine answered nothing for {_SILENT_SECONDS:g} s"
            raise EngineRefused(msg)
        for result in results:
            if not isinstance(result, Result) or result.error:
                msg = "the engine did not answer a request of the calibration"
                raise EngineRefused(msg)
            left -= 1
            in_flight -= 1
    return time.perf_counter() - started


def _submit(engine: Engine, index: int, ids: NDArray[np.int64], outputs: int) -> None:
    try:
        engine.submit(
            Request(
                index=index,
                task_id=index,
                input_ids=ids,
                output_tokens=outputs,
                sampling=Sampling(ignore_eos=True),
            )
        )
    except RequestRefused as reason:
        msg = f"the engine refuses a request of the calibration: {reason}"
        raise EngineRefused(msg) from reason


def _row(steps: Steps) -> tuple[float, float, float, float]:
    return steps.count, steps.decoded, steps.prefilled, steps.kv_read


def _not_negative(rows: Floats) -> Floats:
    """Least squares towards 1, leaving out the most negative part until none is."""
    used = list(range(rows.shape[1]))
    parts = np.zeros(rows.shape[1])
    while used:
        found = np.linalg.lstsq(rows[:, used], np.ones(len(rows)), rcond=None)[0]
        if found.min() >= 0:
            parts[used] = found
            return parts
        del used[int(found.argmin())]
    return parts
