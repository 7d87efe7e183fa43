"""What is measured of an engine is what the engine does, and what cannot be measured is a sentence."""

from __future__ import annotations

import time
from collections import deque

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from trt_dp.errors import EngineRefused, UsageError
from trt_dp.simulate import calibrate
from trt_dp.simulate.calibrate import (
    Calibration,
    Subject,
    Trial,
    calibration,
    errors,
    fit,
    load,
    measure,
    plan_trials,
    predicted,
)
from trt_dp.simulate.forecast import Calibrated, Likeness, forecast
from trt_dp.simulate.needs import Needs
from trt_dp.simulate.step_models import Linear
from trt_dp.simulate.twin import twins
from trt_dp.types import EngineSpec, Failure, Placement, Result

PARTS = st.tuples(st.floats(1e-4, 0.05), st.floats(0, 1e-3), st.floats(0, 1e-3), st.floats(0, 1e-6))


def known(model: Linear, *, reads_alone: bool = False, slots: int = 8) -> Calibration:
    return Calibration(
        engine="some",
        devices=2,
        slots=slots,
        model=model,
        median_error=0.0,
        worst_error=0.0,
        trials=[],
        reads_alone=reads_alone,
    )


def timed(found: Calibration, trial: Trial) -> Trial:
    return replace(trial, seconds=predicted(found, trial))


def at_once(slots: int) -> list[Trial]:
    return [trial for trial in plan_trials(slots, 4096) if not trial.in_flight]


@given(PARTS)
def test_an_engine_that_follows_the_model_is_found_exactly(parts):
    """Trials that take just what a linear model says give that model back, and no error."""
    model = Linear(*parts)
    trials = [timed(known(model), trial) for trial in at_once(64)]
    found = fit(trials)
    assert max(errors(known(found), trials)) < 1e-6
    assert found.overhead == pytest.approx(model.overhead, rel=1e-3)


def test_no_part_of_a_model_is_negative():
    """Whatever noise does to the trials, nothing makes a step faster."""
    dice = np.random.default_rng(1)
    for _ in range(50):
        trials = [
            Trial(requests=n, input_tokens=16, output_tokens=16, seconds=float(dice.random()) + 0.1)
            for n in (1, 2, 4, 8, 16)
        ]
        model = fit(trials)
        assert min(model.overhead, model.per_sequence, model.per_prefill_token) >= 0


@pytest.mark.parametrize(("slots", "context"), [(1, None), (6, 40), (256, 512), (128, 8192)])
def test_trials_fit_the_model_and_reach_a_full_batch(slots, context):
    """No trial is longer than the context, and one has every slot full."""
    trials = plan_trials(slots, context)
    assert max(trial.requests for trial in trials if not trial.in_flight) == slots
    assert all(t.input_tokens + max(t.outputs()) <= (context or 1024) for t in trials)


class Scripted:
    """An engine for these tests: a result per step, all of them good, or none."""

    def __init__(self, *, error: Failure | None = None) -> None:
        self.capacity, self._error, self._waiting = 4, error, deque()

    def submit(self, request):
        assert len(self._waiting) < self.capacity
        self._waiting.append(request)

    def step(self):
        one = self._waiting.popleft()
        return [Result(one.index, [1] * one.output_tokens, error=self._error)]

    def close(self):
        pass


def test_trials_are_shown_as_they_end_and_none_is_left_out_that_there_is_time_for():
    """Every trial is measured and told, the smallest first."""
    said = []
    measured = measure(Scripted(), plan_trials(4, None), 60.0, said.append)
    assert measured == said
    assert len(measured) == len(plan_trials(4, None))
    assert [trial.tokens() for trial in measured] == sorted(trial.tokens() for trial in measured)
    assert len(measure(Scripted(), plan_trials(4, None), 0.0, said.append)) == 5


def test_an_engine_that_fails_is_not_measured():
    """A failure in a trial ends the calibration with a sentence."""
    with pytest.raises(EngineRefused, match="did not answer"):
        measure(Scripted(error=Failure("x", "y")), plan_trials(4, None), 1.0, lambda _: None)


def test_an_engine_that_says_nothing_is_given_up(monkeypatch):
    """A calibration does not wait for ever."""
    monkeypatch.setattr(calibrate, "_SILENT_SECONDS", 0.01)
    engine = Scripted()
    engine.step = lambda: time.sleep(0.001) or []
    with pytest.raises(EngineRefused, match="answered nothing"):
        measure(engine, plan_trials(4, None), 1.0, lambda _: None)


def test_a_file_that_is_no_calibration_is_refused(tmp_path):
    """The sentence says how to make one."""
    (tmp_path / "x.json").write_text("{}")
    for name in ("x.json", "none.json"):
        with pytest.raises(UsageError, match="trt-dp calibrate"):
            load(tmp_path / name)


@settings(max_examples=25)
@given(PARTS, st.integers(1, 4), st.integers(1, 64))
def test_no_forecast_is_below_the_bound(parts, workers, slots):
    """Whatever the engine, what is predicted for equal requests is what the bound says or a little more."""
    count = 800
    needs = Needs(
        prompts=np.full(count, 60),
        outputs=np.full(count, 40),
        places=np.arange(count),
        invalid=0,
        texts=0,
        open_ended=0,
        misfits=np.empty(0, np.int64),
    )
    engine = Calibrated(name="", model=Linear(*parts), slots=slots)
    found = forecast(Likeness.of(needs, engine), engine, workers)
    assert min(found.seconds.values()) >= 0.97 * found.bound


@pytest.mark.parametrize("alone", [False, True])
def test_a_calibration_tells_how_prompts_are_read_and_how_good_it_is(alone):
    """An engine whose answers wait for prompts is told from one whose answers do not, by trials in flow."""
    truth = known(Linear(0.01, 1e-4, 1e-4, 0.0), reads_alone=alone)
    trials = [timed(truth, trial) for trial in plan_trials(8, None)]
    found = calibration(Subject(engine="some", devices=2, slots=8), trials)
    assert (found.engine, found.devices, found.slots) == ("some", 2, 8)
    assert found.reads_alone == alone
    assert found.worst_error < 1e-6


def test_what_trials_at_once_do_not_show_comes_from_those_in_flow():
    """Where steps of a run take longer than those of equal requests, the model's steps are longer too."""
    truth = known(Linear(0.01, 1e-4, 1e-4, 0.0))
    slow = [replace(t, seconds=t.seconds * (1.2 if t.in_flight else 1)) for t in
            (timed(truth, trial) for trial in plan_trials(8, None))]  # fmt: skip
    found = calibration(Subject(engine="some", devices=2, slots=8), slow)
    assert found.model.overhead == pytest.approx(1.2 * truth.model.overhead, rel=1e-3)


def test_a_twin_repeats_what_it_is_told_until_it_is_let_go():
    """The processes beside the measured engine load it, work, and end with the block."""
    place = Placement(0)
    with twins(EngineSpec("echo", None, {}), [place, place]) as company:
        company.tell(Trial(requests=4, input_tokens=4, output_tokens=4))
        company.tell(Trial(requests=2, input_tokens=4, output_tokens=4, in_flight=2))
        inside = [one.pid for one in psutil.Process().children()]
        assert len(inside) >= 2
    assert not any(psutil.pid_exists(pid) for pid in inside)
