from __future__ import annotations

from trt_dp.engines.openai.learning import Concurrency
from trt_dp.engines.openai.standing import Standing


def test_pauses_double():
    """Each failure in a row doubles the pause up to half a minute, and an answer ends the row."""
    standing, now, pauses = Standing(), 0.0, []
    for _ in range(9):
        standing.hold(now, None, "busy")
        begun = now
        while not standing.is_open(now):
            now += 0.01
        pauses.append(now - begun)
    assert all(0.7 * 2**n <= pause * 2 <= 1.02 * 2**n for n, pause in enumerate(pauses[:6]))
    assert max(pauses) <= 30.02
    standing.answered()
    standing.hold(now, None, "busy")
    assert standing.is_open(now + 0.51)


def test_a_burst_of_failures_is_one():
    """What fails during a pause was sent before it, and does not prolong it."""
    standing = Standing()
    assert [standing.hold(0.0, None, "busy") for _ in range(100)] == [True] + [False] * 99
    assert standing.is_open(0.51)


def test_retry_after_is_obeyed():
    """The server's own pause wins over the doubling one, and the longest of several counts."""
    standing = Standing()
    standing.hold(0.0, 5.0, "busy")
    standing.hold(0.0, 2.0, "busy")
    assert not standing.is_open(4.99)
    assert standing.is_open(5.0)


def test_away_until_the_canary_is_answered():
    """A server that is away takes nothing, however long ago that was, until it has answered a canary."""
    standing = Standing()
    standing.leave(0.0, "gone")
    assert not standing.is_open(1e6)
    assert not standing.may_probe(0.1)
    assert standing.may_probe(0.51)
    standing.leave(0.51, "still gone")
    assert not standing.may_probe(0.9)
    standing.came_back()
    assert standing.is_open(2.0)


def drive(server, concurrency: Concurrency, seconds: float) -> int:
    """Answers of a server that answers so many a second with so many in flight, until the time is over."""
    now = 0.0
    while now < seconds:
        now += 1 / server(concurrency.limit)
        concurrency.answered(10, now, full=True)
    return concurrency.limit


def test_it_grows_while_that_helps():
    """With a server that is faster with more in flight, up to 200, about so many are in flight after a while."""
    found = drive(lambda limit: min(limit, 200) * 2.0, Concurrency(), 60.0)
    assert 130 <= found <= 320


def test_it_stays_small_for_a_small_server():
    """A server that gains nothing beyond four at once does not get a crowd."""
    assert drive(lambda limit: min(limit, 4) * 2.0, Concurrency(), 55.0) <= 16


def test_it_shrinks_when_the_server_is_too_busy():
    """A refusal halves it, down to one; a number that was asked for stays."""
    learnt, fixed = Concurrency(), Concurrency(8)
    for _ in range(10):
        learnt.too_busy()
        fixed.too_busy()
    assert (learnt.limit, fixed.limit) == (1, 8)


def test_it_finds_the_limit_of_a_server_that_refuses():
    """Where a server refuses more than 20 at once, about so many are in flight, however often it refuses."""
    learnt, now, seen = Concurrency(), 0.0, []
    while now < 600:
        now += 0.1
        if learnt.limit > 20:
            learnt.too_busy()
        learnt.answered(10, now, full=True)
        seen.append(learnt.limit)
    late = seen[len(seen) // 2 :]
    assert min(late) >= 10
    assert max(late) <= 21


def test_it_does_not_judge_what_it_does_not_use():
    """Where too few requests wait, nothing is learnt."""
    learnt = Concurrency()
    for now in range(1000):
        learnt.answered(10, float(now), full=False)
    assert learnt.limit == 16
