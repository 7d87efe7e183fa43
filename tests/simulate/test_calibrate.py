"""What is measured of an engine is what the engine does, and what cannot be measured is a sentence."""

from __future__ import annotations

import time
from collections import deque

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trt_dp.errors import EngineRefused, UsageError
from trt_dp.simulate import calibrate
from trt_dp.simulate.calibrate import Trial, calibration, errors, fit, load, measure, plan_trials
from trt_dp.simulate.forecast import Calibrated, forecast
from trt_dp.simulate.needs import Needs
from trt_dp.simulate.step_models import Linear
from trt_dp.types import Failure, Result

PARTS = st.tuples(st.floats(1e-4, 0.05), st.floats(0, 1e-3), st.floats(0, 1e-3), st.floats(0, 1e-6))


def timed(model: Linear, trial: Trial) -> Trial:
    return Trial(
        requests=trial.requests,
        input_tokens=trial.input_tokens,
        output_tokens=trial.output_tokens,
        seconds=model.seconds(trial.steps()),
    )


@given(PARTS)
def test_an_engine_that_follows_the_model_is_found_exactly(parts):
    """Trials that take just what a linear model says give that model back, and no error."""
    model = Linear(*parts)
    trials = [timed(model, trial) for trial in plan_trials(64, 4096)]
    found = fit(trials)
    assert max(errors(found, trials)) < 1e-6
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
    assert max(trial.requests for trial in trials) == slots
    assert all(t.input_tokens + t.output_tokens <= (context or 1024) for t in trials)


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
    found = forecast(needs, engine, workers)
    assert min(found.seconds.values()) >= 0.97 * found.bound


def test_a_calibration_tells_how_good_it_is():
    """Its errors are those of its model on its own trials."""
    model = Linear(0.01, 1e-4, 1e-5, 0.0)
    trials = [timed(model, trial) for trial in plan_trials(8, None)]
    found = calibration("some", 2, 8, trials)
    assert (found.engine, found.devices, found.slots) == ("some", 2, 8)
    assert found.worst_error < 1e-6
