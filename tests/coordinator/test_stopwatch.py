"""Where the time of a run goes, and when a run that was asked to stop does so."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trt_dp.coordinator.stopping import Stopping
from trt_dp.coordinator.stopwatch import Stopwatch
from trt_dp.report.schema import PHASES


def ended(moments: dict[str, float]) -> dict[str, float]:
    stopwatch = Stopwatch()
    stopwatch.began = 0.0
    for phase, moment in moments.items():
        stopwatch.end(phase, moment)
    return stopwatch.seconds()


@given(st.dictionaries(st.sampled_from(PHASES), st.floats(0, 1e5)))
def test_phases_sum_to_the_wall_time(moments):
    """Phases are consecutive: together they are the time from the start to the latest end."""
    found = ended(moments)
    assert tuple(found) == PHASES
    assert sum(found.values()) == pytest.approx(max(moments.values(), default=0.0), abs=1e-6)
    assert min(found.values()) >= 0


def test_each_phase_has_its_own_time():
    """A phase lasts from the end of the one before to its own, whatever the order in which ends are told."""
    moments = dict(zip(PHASES, [1, 3, 6, 10, 15, 21, 28], strict=True))
    assert list(ended(dict(reversed(moments.items()))).values()) == [1, 2, 3, 4, 5, 6, 7]


def test_a_phase_that_never_happened_takes_no_time():
    """A run with nothing to do has only the phases it came to."""
    found = ended({"index": 2.0, "sort": 5.0})
    assert found == {**dict.fromkeys(PHASES, 0.0), "index": 2.0, "sort": 3.0}


def test_the_first_end_of_a_phase_counts():
    """A second worker that connects does not prolong the start."""
    assert ended({"start": 2.0})["start"] == 2.0
    stopwatch = Stopwatch()
    stopwatch.began = 0.0
    stopwatch.end("start", 2.0)
    stopwatch.end("start", 9.0)
    assert stopwatch.seconds()["start"] == 2.0


def test_an_unknown_phase_is_a_mistake():
    """A phase that no report knows cannot be told."""
    with pytest.raises(ValueError, match="no phase 'lunch'"):
        Stopwatch().end("lunch")


def test_start_up_is_over_when_feeding_begins():
    """CPU time counts as start-up until the first engine is loaded, and not after."""
    stopwatch = Stopwatch()
    before = stopwatch.startup_cpu_seconds
    stopwatch.feeding_begins()
    kept = stopwatch.startup_cpu_seconds
    sum(range(100_000))
    stopwatch.feeding_begins()
    assert before <= kept == stopwatch.startup_cpu_seconds


def test_a_run_without_a_signal_goes_on():
    """Without a signal a run neither stops nor waits."""
    stopping = Stopping([], 30.0)
    assert not stopping.begins()
    assert not stopping.begun
    assert not stopping.over(0)


def test_a_signal_waits_for_what_is_in_flight_and_a_second_one_does_not():
    """The first signal is told once; the run is over when nothing is in flight, or at a second signal."""
    signals = [2]
    stopping = Stopping(signals, 1e6)
    assert [stopping.begins(), stopping.begins()] == [True, False]
    assert not stopping.over(1)
    assert stopping.over(0)
    signals.append(2)
    assert stopping.over(1)


def test_grace_ends():
    """A run that is stopping does not wait longer than its grace."""
    stopping = Stopping([2], -1.0)
    assert stopping.begins()
    assert stopping.over(5)
