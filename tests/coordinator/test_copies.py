"""Copies of the last requests: one answer is kept, whatever happens to whoever has the other."""

from __future__ import annotations

import json

import numpy as np
import pytest
from conftest import echo_job, expected_lines, read_lines, trt_dp, write_dataset
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec import structs

from trt_dp.coordinator.job import Silent
from trt_dp.coordinator.order.contract import Answered
from trt_dp.coordinator.queue.copies import Copies
from trt_dp.coordinator.queue.dispatcher import Dispatcher, Stray
from trt_dp.coordinator.run import run
from trt_dp.errors import UsageError
from trt_dp.types import EngineSpec

WORKERS = st.integers(0, 3)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Queue(RuleBasedStateMachine):
    """Workers of which one is slow, deaths, answers that come second, and requests that are given back."""

    @initialize(requests=st.integers(1, 12), exact=st.booleans())
    def begin(self, requests, exact):
        self.clock = Clock()
        copies = Copies(self.clock, np.full(requests, 10.0), exact=exact)
        self.queue = Dispatcher(np.arange(requests), 4, proven=True, copies=copies)
        self.requests = requests
        self.held: dict[int, set[int]] = {worker: set() for worker in range(4)}
        self.beaten: dict[int, set[int]] = {worker: set() for worker in range(4)}
        self.completed: set[int] = set()
        for worker, seconds in enumerate([100.0, 1.0, 1.0, 1.0]):
            tokens = np.array([10])
            self.queue.learn(Answered(worker, np.array([-1]), tokens, np.array([seconds])))

    @rule(worker=WORKERS, limit=st.integers(1, 16))
    def take(self, worker, limit):
        taken = self.queue.take(worker, limit).tolist()
        if taken and self.queue._quarantine.isolates(worker):
            assert (len(taken), self.held[worker], self.beaten[worker]) == (1, set(), set())
        assert not set(taken) & set().union(*self.held.values())
        self.held[worker] |= set(taken)
        self.clock.now += 0.2

    @rule(worker=WORKERS, limit=st.integers(1, 16))
    def copy(self, worker, limit):
        before = {other: set(held) for other, held in self.held.items()}
        copied = self.queue.copy(worker, limit).tolist()
        self.clock.now += 0.2
        if copied:
            assert not self.queue.pending
        for index in copied:
            holders = [other for other, held in before.items() if index in held]
            assert len(holders) == 1
            assert worker not in holders
            assert not self.queue.deaths_of(index)
        self.held[worker] |= set(copied)

    @rule(worker=st.integers(1, 3), limit=st.integers(8, 16))
    def become_idle_and_copy(self, worker, limit):
        """What is pending is taken by others, so that this worker has nothing to do but copies."""
        for other in (0, 2, 3, 1):
            self.take(other, 16)
        self._answer(worker, sorted(self.held[worker]))
        self.copy(worker, limit)

    @rule(worker=WORKERS, data=st.data())
    def finish(self, worker, data):
        held = sorted(self.held[worker])
        if held:
            self._answer(worker, data.draw(st.lists(st.sampled_from(held), unique=True)))

    def _answer(self, worker, answered):
        assert not set(answered) & self.completed
        losers = self.queue.finish(worker, answered)
        self.held[worker] -= set(answered)
        self.completed |= set(answered)
        others = {(w, i) for w, held in self.held.items() for i in held if i in answered}
        assert set(losers) == others
        for loser, index in losers:
            self.held[loser].discard(index)
            self.beaten[loser].add(index)

    @rule(worker=WORKERS, data=st.data())
    def second(self, worker, data):
        """What was beaten comes: it is known as such once, and then it is nonsense."""
        if not self.beaten[worker]:
            return
        index = data.draw(st.sampled_from(sorted(self.beaten[worker])))
        self.beaten[worker].discard(index)
        assert self.queue.beaten(worker, [index]) == [True]
        assert self.queue.beaten(worker, [index]) == [False]
        with pytest.raises(Stray):
            self.queue.finish(worker, [index])

    @rule(worker=WORKERS, data=st.data(), blame=st.sampled_from(["none", "request", "batch"]))
    def give_back(self, worker, data, blame):
        if not self.held[worker]:
            return
        index = data.draw(st.sampled_from(sorted(self.held[worker])))
        self.held[worker].discard(index)
        hopeless = self.queue.give_back(worker, [index], blame)
        assert not self._elsewhere(index) or not hopeless
        self.completed |= set(hopeless)

    @rule(worker=WORKERS)
    def lose(self, worker):
        self.held[worker] = set()
        self.beaten[worker].clear()
        hopeless = self.queue.lose(worker)
        assert not any(self._elsewhere(index) for index in hopeless)
        self.completed |= set(hopeless)

    @invariant()
    def every_request_is_counted_once(self):
        if not hasattr(self, "queue"):
            return
        flying = set().union(*self.held.values())
        assert not flying & self.completed
        assert self.queue.in_flight == len(flying)
        assert self.queue.unfinished == self.requests - len(self.completed)
        assert max((sum(i in held for held in self.held.values()) for i in flying), default=0) <= 2

    def _elsewhere(self, index):
        return any(index in held for held in self.held.values())

    def teardown(self):
        """From wherever it is, workers that live bring it to its end."""
        if not hasattr(self, "queue"):
            return
        for _ in range(3 * self.requests + 3):
            for worker in range(4):
                for index in list(self.beaten[worker]):
                    self.queue.beaten(worker, [index])
                self.beaten[worker].clear()
                self.take(worker, 16)
                for loser, index in self.queue.finish(worker, self.held[worker]):
                    self.held[loser].discard(index)
                    self.beaten[loser].add(index)
                self.held[worker] = set()
        assert self.queue.unfinished == 0


TestQueue = Queue.TestCase
TestQueue.__doc__ = "Two workers have a request at most, its first answer counts, and none is lost."


def queue_with_a_slow_worker(lengths, *, exact=True):
    """Two workers, of which 0 takes ten times as long as 1, and nothing pending."""
    clock = Clock()
    copies = Copies(clock, np.array(lengths, float), exact=exact)
    queue = Dispatcher(np.arange(len(lengths)), 2, proven=True, copies=copies)
    for worker, seconds in ((0, 10.0), (1, 1.0)):
        answered = Answered(worker, np.array([-1]), np.array([10]), np.array([seconds]))
        queue.learn(answered)
    return queue, clock


def test_an_idle_worker_copies_what_it_will_end_first():
    """A request that has just begun in a slow worker is copied; one that is nearly done there is not."""
    queue, clock = queue_with_a_slow_worker([100, 100, 100])
    first = queue.take(0, 1)
    clock.now = 99.0  # of the 100 s that it takes there
    taken = np.concatenate([queue.take(0, 2), queue.take(1, 1)])
    queue.finish(1, [2])
    assert sorted(np.concatenate([first, taken]).tolist()) == [0, 1, 2]
    assert queue.copy(1, 8).tolist() == [1]
    assert queue.in_flight == 2


def test_nothing_is_copied_while_anything_waits():
    """Requests that nobody has go first, suspects too."""
    queue, clock = queue_with_a_slow_worker([100] * 4)
    queue.take(0, 2)
    assert not len(queue.copy(1, 8))
    lost = queue.take(1, 2)
    assert queue.lose(1) == []
    clock.now += 1
    assert not len(queue.copy(1, 8))
    assert sorted(queue.take(1, 8).tolist()) == sorted(lost.tolist())


def test_a_worker_that_dies_leaves_its_request_to_the_copy():
    """A request whose other copy lives is no suspect: it goes on there, and is never copied again."""
    queue, clock = queue_with_a_slow_worker([100])
    queue.take(0, 1)
    assert queue.copy(1, 8).tolist() == [0]
    assert queue.lose(0) == []
    assert (queue.pending, queue.in_flight, queue.deaths_of(0)) == (0, 1, 1)
    clock.now += 10
    assert not len(queue.copy(0, 8))
    assert queue.finish(1, [0]) == []
    assert queue.unfinished == 0


def test_no_suspect_runs_alone_where_a_beaten_request_still_runs():
    """Else that one could kill the worker, and the suspect would be blamed."""
    clock = Clock()
    copies = Copies(clock, np.array([100, 100]), exact=True)
    queue = Dispatcher(np.arange(2), 4, proven=True, copies=copies)
    for worker, seconds in enumerate((100.0, 1.0, 100.0, 1.0)):
        queue.learn(Answered(worker, np.array([-1]), np.array([10]), np.array([seconds])))
    assert (queue.take(0, 1).tolist(), queue.take(2, 1).tolist()) == ([0], [1])
    assert 0 in queue.copy(1, 16)
    assert queue.finish(1, [0]) == [(0, 0)]
    for killed in (1, 2, 3):
        queue.take(killed, 1)
        queue.lose(killed)
    assert queue.deaths_of(1) >= 2
    assert queue.take(0, 8).tolist() == []
    assert queue.beaten(0, [0]) == [True]
    assert queue.take(0, 8).tolist() == [1]


@pytest.mark.parametrize("engine", ["uneven", "deaf"])
def test_copies_end_a_run_that_one_slow_worker_holds_up(tmp_path, stand_ins, engine):
    """Some copies win, each request has one answer, and the ledger balances, though an engine cannot cancel."""
    dataset = write_dataset(tmp_path / "requests.jsonl", 200, outputs=50)
    folder = tmp_path / "run"
    done = trt_dp(
        "run", dataset, "--engine", engine, "--n-workers", 2, "--speculate", "--no-timing",
        "--output", folder, env=stand_ins,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads((folder / "report.json").read_text())
    assert report["requests"]["copies"] >= report["requests"]["copies_won"] >= 1
    assert report["requests"]["redone"] == 0
    assert report["ledger"]["errors"] == []
    assert expected_lines(dataset) == read_lines(folder / "results.jsonl")
    assert all(worker["deaths"] == 0 for worker in report["workers"])


def test_an_engine_whose_answers_depend_on_company_is_refused(tmp_path, dataset):
    """--speculate says which engine cannot, before anything is loaded."""
    job = echo_job(dataset, tmp_path / "run", {})
    for spec in (EngineSpec("vllm", "m"), EngineSpec("cpu", "m", {"precision": "fast"})):
        with pytest.raises(UsageError, match=f"--speculate: the engine {spec.name}"):
            run(structs.replace(job, engine=spec, speculate=True), Silent())
