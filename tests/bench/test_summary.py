"""Metrics against sequences that were worked out by hand, and what holds for every sequence."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trt_dp.bench import values
from trt_dp.bench.record import Error, Record
from trt_dp.bench.spread import PERCENTILES, spread
from trt_dp.bench.summary import DEFINITIONS, Summary, summarise


def record(number: int = 0, **more) -> Record:
    settings = {
        "number": number, "endpoint": 0, "asked_input_tokens": 10, "asked_output_tokens": 4,
        "sent": 0.0, "chunks": [0.5, 0.6, 0.8, 0.9], "done": 1.0, "input_tokens": 10,
        "output_tokens": 4, "finish_reason": "length",
    }  # fmt: skip
    return Record(**{**settings, **more})


def test_the_values_of_one_request():
    """First token, last token, gaps and time per token of a request whose events are known."""
    one = record()
    assert values.ttft(one) == 0.5
    assert values.latency(one) == 0.9
    assert values.gaps(one) == pytest.approx([0.1, 0.2, 0.1])
    assert values.tpot(one) == pytest.approx(0.4 / 3)
    assert values.itl_with_first(one) == pytest.approx(0.9 / 4)
    assert values.itl_without_first(one) == pytest.approx(0.4 / 3)


def test_a_single_token_or_event_has_no_time_per_token():
    """What cannot be measured is None, not 0."""
    assert values.tpot(record(chunks=[0.5], output_tokens=1)) is None
    assert values.tpot(record(chunks=[0.5], output_tokens=4)) is None
    assert values.gaps(record(chunks=[0.5])) == []


def test_tokens_are_counted_from_usage_and_not_from_events():
    """Two events that carry eight tokens have the time per token of eight tokens."""
    assert values.tpot(record(chunks=[1.0, 1.7], output_tokens=8)) == pytest.approx(0.1)


def test_throughput_is_over_the_time_from_the_first_request_to_the_last_byte():
    """Two requests: sent at 1 s and 2 s, the last byte at 5 s."""
    told = summarise([record(0, sent=1.0), record(1, sent=2.0, done=3.0)], ["a"])
    assert told.duration_seconds == 4.0
    assert told.output_tok_s == 8 / 4
    assert told.input_tok_s == 20 / 4
    assert told.total_tok_s == 28 / 4
    assert told.requests_per_second == 0.5
    assert told.mean_in_flight == (1.0 + 3.0) / 4


def test_a_failed_request_counts_as_failed_and_in_no_other_number():
    """Its tokens and times are nowhere; its reason is."""
    broken = record(1, error=Error("closed", "cut"), chunks=[9.0], output_tokens=0)
    told = summarise([record(0), broken], ["a"])
    assert (told.requests, told.answered, told.failed) == (2, 1, 1)
    assert told.output_tokens == 4
    assert told.ttft_ms.count == 1
    assert [(g.kind, g.message, g.requests) for g in told.failures] == [("closed", "cut", 1)]


def test_nothing_answered_has_no_times():
    """All failed: the counts are there, the distributions are not."""
    told = summarise([record(error=Error("connect", "refused"), chunks=[], output_tokens=0)], ["a"])
    assert told.ttft_ms is None
    assert told.output_tok_s == 0


def test_endpoints_are_told_apart():
    """What each answered, and by when."""
    told = summarise([record(0), record(1, endpoint=1, output_tokens=2), record(2)], ["a", "b"])
    assert [(e.url, e.answered, e.output_tokens) for e in told.endpoints] == [
        ("a", 2, 8),
        ("b", 1, 2),
    ]
    assert told.shorter == 1


def test_lateness_of_an_open_loop():
    """The difference between when a request should have gone and when it did."""
    told = summarise([record(0, sent=0.001, due=0.0), record(1, sent=1.003, due=1.0)], ["a"])
    assert told.late_ms.maximum == pytest.approx(3.0)


def test_percentiles_are_interpolated_linearly():
    """The same as everybody's: the median of four values is between two of them."""
    found = spread([1.0, 2.0, 3.0, 4.0], 10.0)
    assert (found.p50, found.p25, found.p75) == (25.0, 17.5, 32.5)
    assert found.stdev == pytest.approx(10 * math.sqrt(1.25))
    assert spread([]) is None


def test_every_number_has_a_definition():
    """A number that nobody explains is not shown."""
    unexplained = {"requests", "answered", "endpoints", "failures"}
    assert set(Summary.__struct_fields__) - unexplained == set(DEFINITIONS)


moments = st.lists(st.floats(0.001, 100), min_size=1, max_size=60).map(sorted)


@given(moments, st.integers(0, 100))
def test_gaps_sum_to_the_time_from_the_first_to_the_last_token(chunks, more):
    """Whatever the events: gaps sum to latency - ttft, and so does the time per token of all after the first."""
    one = record(chunks=chunks, output_tokens=len(chunks) + more)
    between = values.latency(one) - values.ttft(one)
    assert math.fsum(values.gaps(one)) == pytest.approx(between, abs=1e-9)
    assert values.itl_without_first(one) * max(1, one.output_tokens - 1) == pytest.approx(between)
    assert values.itl_with_first(one) * one.output_tokens == pytest.approx(values.latency(one))


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50))
def test_percentiles_never_fall_and_stay_between_the_extremes(found):
    """p1 <= p5 <= ... <= p99, all from minimum to maximum."""
    told = spread(found)
    at = [told.minimum, *(getattr(told, f"p{p}") for p in PERCENTILES), told.maximum]
    assert all(a <= b + 1e-9 * abs(b) for a, b in pairwise(at))
