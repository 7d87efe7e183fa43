"""Requests that an engine gives back without an answer, and engines that take nothing for a while."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import read_lines, run_echo, trt_dp_here, write_dataset
from hypothesis import given
from hypothesis import strategies as st

from trt_dp.coordinator.queue.dispatcher import Dispatcher, Stray


def run(tmp_path: Path, stand_ins: dict[str, str], *options: object, engine: str = "moody"):
    dataset = write_dataset(tmp_path / "requests.jsonl", 100)
    done = trt_dp_here(
        "run", dataset, "--engine", engine, "--n-workers", 2, "--no-timing",
        "--output", tmp_path / engine, *options, env=stand_ins,
    )  # fmt: skip
    folder = tmp_path / engine
    report = json.loads((folder / "report.json").read_text())
    return done, folder, report


@pytest.mark.parametrize("blame", ["none", "request", "batch"])
def test_what_one_worker_gives_back_is_answered_in_its_place(tmp_path, stand_ins, blame):
    """Given back once, for whatever reason, a request is answered like every other, and the ledger balances."""
    plain = run_echo(write_dataset(tmp_path / "plain.jsonl", 100), tmp_path / "plain").folder
    everything = ",".join(map(str, range(100)))
    options = [f"back={everything}", f"blame={blame}", "only_worker=0"]
    done, folder, report = run(tmp_path, stand_ins, *(w for o in options for w in ("--set", o)))
    assert done.returncode == 0, done.stderr
    assert (folder / "results.jsonl").read_bytes() == (plain / "results.jsonl").read_bytes()
    assert report["requests"]["redone"] >= 1
    assert report["ledger"]["errors"] == []
    assert all(worker["deaths"] == 0 for worker in report["workers"])


@pytest.mark.parametrize(("blame", "tries"), [("request", 2), ("batch", 2)])
def test_what_is_given_back_for_ever_fails_with_the_engines_reason(
    tmp_path, stand_ins, blame, tries
):
    """A request that no worker can answer fails after a try in each, and costs no other request."""
    options = ("--set", "back=5,50", "--set", f"blame={blame}", "--set", "times=1000")
    done, folder, report = run(tmp_path, stand_ins, *options)
    assert done.returncode == 3, done.stderr
    failed = read_lines(folder / "failures.jsonl")
    assert [one["task_id"] for one in failed] == [5, 50]
    assert {one["error"]["message"] for one in failed} == {"moody was told to give it back"}
    assert all(one["error"]["attempts"] >= tries for one in failed)
    assert len(read_lines(folder / "results.jsonl")) == 98
    assert report["ledger"]["errors"] == []


def test_a_paused_engine_gets_nothing_and_goes_on_by_itself(tmp_path, stand_ins):
    """With a capacity of 0 for a while, after every few answers, all is answered, and nothing dies."""
    done, folder, report = run(tmp_path, stand_ins, "--set", "pause=16")
    assert done.returncode == 0, done.stderr
    assert len(read_lines(folder / "results.jsonl")) == 100
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    told = [event["capacity"] for event in events if event["event"] == "capacity"]
    assert 0 in told
    assert 8 in told
    assert all(worker["deaths"] == 0 for worker in report["workers"])


def test_answers_of_a_row_that_comes_back_are_made_again(tmp_path, stand_ins):
    """Where one of a row's several answers is missing, the whole row runs again and has all of them once."""
    dataset = tmp_path / "several.jsonl"
    rows = [{"input_ids": [1, 2, place], "output_tokens": 3, "n": 3} for place in range(1, 9)]
    dataset.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = trt_dp_here(
        "run", dataset, "--engine", "moody", "--set", "back=2,6", "--output", tmp_path / "run",
        env=stand_ins,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = read_lines(tmp_path / "run" / "results.jsonl")
    assert [line["task_id"] for line in lines] == list(range(8))
    assert all(len(line["outputs"]) == 3 for line in lines)


@given(
    requests=st.integers(1, 60),
    workers=st.integers(1, 4),
    steps=st.lists(
        st.tuples(
            st.integers(0, 3), st.integers(1, 9), st.sampled_from(["none", "request", "batch", ""])
        ),
        max_size=60,
    ),
)
def test_nothing_that_comes_back_is_lost_or_held_twice(requests, workers, steps):
    """Whatever is given back and answered in whatever order, each request ends once, answered or given up."""
    queue = Dispatcher(np.arange(requests), workers, proven=True)
    held: dict[int, list[int]] = {worker: [] for worker in range(workers)}
    ended: list[int] = []
    for worker, count, blame in [*steps, *[(w, 99, "") for w in range(workers)] * (3 * requests)]:
        place = worker % workers
        held[place] += queue.take(place, 16).tolist()
        some, held[place] = held[place][:count], held[place][count:]
        if blame:
            ended += queue.give_back(place, some, blame)
        elif some:
            queue.finish(place, some)
            ended += some
        everywhere = sum(map(len, held.values()))
        assert queue.in_flight == everywhere
        assert queue.unfinished + len(ended) == requests
    assert sorted(ended) == list(range(requests))


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("blame", ["request", "batch"])
def test_an_engine_that_never_answers_does_not_try_for_ever(blame, workers):
    """Where nothing is ever answered and requests are blamed for that, each is given up after several tries."""
    queue = Dispatcher(np.arange(20), workers)
    given_up: list[int] = []
    for turn in range(2000):
        mine = queue.take(turn % workers, 8).tolist()
        given_up += queue.give_back(turn % workers, mine, blame)
        assert queue.unfinished + len(given_up) == 20
    assert sorted(given_up) == list(range(20))


def test_a_worker_cannot_give_back_what_it_does_not_have():
    """What a worker gives back must be in flight there."""
    queue = Dispatcher(np.arange(4), 2)
    mine = queue.take(0, 2).tolist()
    with pytest.raises(Stray):
        queue.give_back(1, mine, "none")
    with pytest.raises(Stray):
        queue.give_back(0, [*mine, mine[0]], "none")
    assert queue.give_back(0, mine, "none") == []
    assert queue.take(1, 4).tolist() == mine
