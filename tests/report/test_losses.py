"""Lost time is named: causes planted in runs of virtual time are found, with their size."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import Plan, observe

from trt_dp.report.losses import attribute

EVEN = [100] * 1280  # 20 waves of 64 slots


def seconds(plan: Plan) -> dict[str, float]:
    losses = attribute(observe(plan))
    assert losses is not None
    return {part.cause: part.seconds for part in losses.parts}


def wall(plan: Plan) -> float:
    return sum(observe(plan).phases.values())


def point(plan: Plan) -> float:
    """One point: a hundredth of the wall time."""
    return wall(plan) / 100


@pytest.mark.parametrize(
    "plan",
    [
        Plan(EVEN),
        Plan(EVEN, ready_at={3: 9.0}, sort=2.0, index=1.0, load=5.0),
        Plan([*EVEN, 3000], deaths=[(1, 7.0, 6.0)], speeds={2: 0.7}),
        Plan([10, 2000, 30], prefill_seconds=0.5),
        Plan(EVEN, per_request_seconds=0.002, prefill_seconds=0.3),
    ],
    ids=["even", "start", "everything", "tiny", "prefill"],
)
def test_parts_sum_to_the_gap(plan):
    """The parts are the whole difference between the run and its bound, to rounding."""
    losses = attribute(observe(plan))
    assert sum(part.seconds for part in losses.parts) == pytest.approx(
        losses.lost_seconds, abs=1e-6
    )
    assert losses.lost_seconds == pytest.approx(losses.wall_seconds - losses.bound_seconds)
    if losses.lost_seconds > 1e-6:
        assert sum(part.share for part in losses.parts) == pytest.approx(1.0)
    assert 0 < losses.efficiency <= 1 + 1e-9


def test_a_run_without_a_flaw_reaches_its_bound():
    """Whole waves on equal workers lose almost nothing."""
    losses = attribute(observe(Plan(EVEN)))
    assert losses.efficiency > 0.99


@pytest.mark.parametrize(
    ("cause", "plan", "lost"),
    [
        ("index", Plan(EVEN, index=4.0), 4.0),
        ("loading", Plan(EVEN, load=6.0), 6.0),
        ("skew", Plan(EVEN, ready_at={3: 8.0}), 2.0),
        ("sorting", Plan(EVEN, sort=3.0), 3.0),
    ],
)
def test_planted_time_is_found_with_its_size(cause, plan, lost):
    """Time that workers were not there is found within one point of the run."""
    assert seconds(plan)[cause] == pytest.approx(lost, abs=point(plan))


@pytest.mark.parametrize(
    "deaths", [[(1, 9.5, 1.0)], [(1, 10.0, 10.0)], [(0, 3.0, 2.0), (3, 20.0, 4.0)]]
)
def test_a_death_costs_the_work_that_died_with_it(deaths):
    """Time away, work done twice, and the wave in which it is done again: all that the run grew by."""
    plan = Plan(EVEN, deaths=deaths)
    grew = wall(plan) - wall(Plan(EVEN))
    assert grew > 1.0
    assert seconds(plan)["restarts"] == pytest.approx(grew, abs=point(plan))


def test_long_requests_at_the_end_are_named():
    """Three requests of twenty times the usual length, sent last, cost what the run grew by."""
    plan = Plan([*EVEN, 2000, 2000, 2000])
    grew = wall(plan) - wall(Plan(EVEN))
    found = attribute(observe(plan))
    parts = {part.cause: part.seconds for part in found.parts}
    floor = max(0.0, found.bound_seconds - attribute(observe(Plan(EVEN))).bound_seconds)
    assert parts["long"] == pytest.approx(grew - floor, abs=point(plan))
    assert "3 long requests of up to 2,000 tokens" in found.advice


def test_a_slow_worker_at_the_end_is_named():
    """The others wait for a worker that takes three times as long for its last requests."""
    plan = Plan(EVEN[:496], speeds={0: 0.35})
    found = attribute(observe(plan))
    largest = max(found.parts, key=lambda part: part.seconds)
    assert largest.cause == "uneven"
    assert "Worker 0 ran at 35% of the fastest" in found.advice


def test_a_ragged_last_wave_is_named():
    """Half a wave at the end leaves half of the slots empty for its time."""
    plan = Plan([*EVEN, *[100] * 32])
    assert seconds(plan)["ragged"] == pytest.approx(1.0, abs=point(plan))


def test_prefill_is_found_where_first_tokens_are_known():
    """Slots that read prompts for a fifth of their time make a fifth of the time."""
    plan = Plan(EVEN, prefill_seconds=0.5)
    assert seconds(plan)["prefill"] == pytest.approx(wall(plan) * 0.2, abs=2 * point(plan))


def test_slots_that_wait_for_requests_are_found():
    """A pause before each request, while others are pending, is dispatch wait or its like, and nothing else."""
    plan = Plan(EVEN, pause=0.5)
    parts = seconds(plan)
    assert parts["long"] == parts["uneven"] == 0.0
    assert parts["dispatch"] + parts["pace"] == pytest.approx(wall(plan) * 0.2, abs=3 * point(plan))


def test_larger_batches_that_are_not_faster_lose_nothing_at_the_end():
    """Where a step takes as long as its batch is large, half a batch makes as many tokens: that is no loss."""
    plan = Plan([100] * 168, workers=1, base_seconds=0.0, per_request_seconds=0.002)
    assert seconds(plan)["ragged"] == pytest.approx(0.0, abs=point(plan))


def test_no_answer_no_speed_no_losses():
    """Without a token there is no bound, and nothing is made up."""
    run = observe(Plan([5]))
    nothing = np.zeros(1, np.int64)
    columns = [msgspec.structs.replace(part, output_tokens=nothing) for part in run.columns]
    assert attribute(msgspec.structs.replace(run, columns=columns)) is None


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 400), min_size=1, max_size=120),
    st.integers(1, 5),
    st.integers(1, 8),
    st.floats(0, 5),
    st.floats(0, 0.3),
)
def test_any_run_is_accounted_for(lengths, workers, slots, late, prefill):
    """Whatever the run, the parts sum to the gap, and the bound is never above the wall time."""
    plan = Plan(lengths, workers, slots, ready_at={0: late}, prefill_seconds=prefill)
    losses = attribute(observe(plan))
    assert losses.bound_seconds <= losses.wall_seconds * (1 + 1e-9)
    assert sum(p.seconds for p in losses.parts) == pytest.approx(losses.lost_seconds, abs=1e-6)
