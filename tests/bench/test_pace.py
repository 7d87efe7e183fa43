"""Which request goes when and where, without a clock: the test says what time it is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trt_dp.bench.pace import Pace


def test_a_closed_loop_keeps_its_number_in_flight():
    """Four of ten go at once, and one more for each that ends."""
    pace = Pace(10, 2, 4)
    assert pace.take(0.0) == [(0, 0), (1, 1), (2, 0), (3, 1)]
    assert pace.take(9.0) == []
    pace.finished(1)
    assert pace.take(9.0) == [(4, 1)]


def test_the_endpoint_with_the_fewest_in_flight_gets_the_next():
    """One endpoint that answers and one that does not: all goes to the first once the other has its share."""
    pace = Pace(20, 2, 4)
    pace.take(0.0)
    given = []
    for _ in range(6):
        pace.finished(0)
        given += [endpoint for _, endpoint in pace.take(0.0)]
    assert given == [0] * 6
    assert pace.in_flight == [2, 2]


def test_equals_get_the_same_number():
    """One in flight at a time: endpoints take turns instead of the first getting all."""
    pace, given = Pace(9, 3, 1), []
    for _ in range(9):
        [(_, endpoint)] = pace.take(0.0)
        given.append(endpoint)
        pace.finished(endpoint)
    assert sorted(given) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert pace.over


def test_an_open_loop_sends_when_due_whatever_is_in_flight():
    """Nothing ends, and still all go when their time has come."""
    pace = Pace(4, 1, None, [0.0, 1.0, 1.5, 4.0])
    assert pace.take(0.0) == [(0, 0)]
    assert pace.wait(0.25) == 0.75
    assert pace.take(0.9) == []
    assert pace.take(2.0) == [(1, 0), (2, 0)]
    assert pace.take(4.0) == [(3, 0)]
    assert not pace.over
    assert pace.due(2) == 1.5


@given(st.integers(0, 60), st.integers(1, 5), st.integers(1, 9), st.randoms(use_true_random=False))
def test_every_request_goes_once_and_never_too_many(requests, endpoints, concurrency, random):
    """Whatever the order in which requests end: each is sent once, and endpoints differ by at most what ended."""
    pace, flying, sent = Pace(requests, endpoints, concurrency), [], []
    while not pace.over:
        for number, endpoint in pace.take(0.0):
            sent.append(number)
            flying.append(endpoint)
        assert len(flying) == min(concurrency, len(flying) + requests - len(sent))
        assert sum(pace.in_flight) == len(flying) <= concurrency
        pace.finished(flying.pop(random.randrange(len(flying))))
    assert sent == list(range(requests))
