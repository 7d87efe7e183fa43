"""What is done about a server, from what was seen of it."""

from __future__ import annotations

import pytest

from trt_dp.serving.post import Limits, Post


@pytest.fixture
def post():
    """A server that was started at 0, with two restarts."""
    made = Post(Limits(load_seconds=100, silent_seconds=10, max_restarts=2))
    assert made.act(0) == "start"
    return made


def test_it_is_ready_once_it_answers(post):
    """Until its first healthy answer it is loading, whatever else it says."""
    post.unhealthy(1)
    assert (post.state, post.act(2)) == ("loading", None)
    post.healthy(3)
    assert (post.state, post.act(4)) == ("ready", None)


def test_one_that_takes_too_long_to_load_is_killed(post):
    """After its time it is killed once, and its death has that reason."""
    assert post.act(100) is None
    assert post.act(100.1) == "kill"
    assert post.act(101) is None
    post.died("it was killed by SIGKILL", 101)
    assert post.reason == "it was not ready after 100 s"


def test_one_that_stops_to_answer_is_killed_unless_it_answers_again(post):
    """Silence has a limit; an answer in time ends it."""
    post.healthy(1)
    post.unhealthy(2)
    assert (post.state, post.act(11)) == ("silent", None)
    post.healthy(11.5)
    assert post.state == "ready"
    post.unhealthy(12)
    assert post.act(22.1) == "kill"
    post.died("it was killed by SIGKILL", 23)
    assert (post.state, post.reason) == ("waiting", "it did not answer for 10 s")


def test_a_dead_one_is_started_again_at_once_and_then_later_and_later(post):
    """The first restart waits for nothing, the next ones longer each; after the last it is retired."""
    post.healthy(1)
    post.died("crash", 10)
    assert post.act(10) == "start"
    post.healthy(11)
    post.died("crash", 20)
    assert post.act(20.9) is None
    assert post.act(21.1) == "start"
    post.healthy(22)
    post.died("crash", 30)
    assert (post.over, post.act(1000), post.reason) == (True, None, "crash")


def test_one_that_never_loads_is_retired_after_two_tries(post):
    """What fails to load twice would fail always, and loading may take minutes."""
    post.died("no such model", 1)
    assert post.act(1) == "start"
    post.died("no such model", 2)
    assert post.over


def test_a_steady_one_starts_with_a_clean_record(post):
    """Deaths are forgotten once it was ready for a minute."""
    post.healthy(1)
    for hour in range(1, 20):
        post.died("crash", hour * 3600)
        assert post.act(hour * 3600) == "start"
        post.healthy(hour * 3600 + 10)
        post.act(hour * 3600 + 100)
    assert not post.over
