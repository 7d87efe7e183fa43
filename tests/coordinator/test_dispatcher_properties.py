"""The shared queue under whatever order of events: hypothesis plays the workers and the deaths."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from trt_dp.coordinator.order.contract import SUSPECTS_TOGETHER
from trt_dp.coordinator.queue.dispatcher import Dispatcher, Stray
from trt_dp.coordinator.queue.quarantine import DEATHS_ALONE

WORKERS = st.integers(0, 4)
LIMITS = st.integers(1, 40)


class Queue(RuleBasedStateMachine):
    """A plain model of the Dispatcher beside it: where every request is, and who was alone when a worker died."""

    @initialize(
        requests=st.lists(st.integers(0, 10**6), max_size=80, unique=True),
        workers=st.integers(1, 5),
        proven=st.booleans(),
    )
    def begin(self, requests, workers, proven):
        self.all = set(requests)
        self.pending = list(requests)
        self.once: dict[int, int] = {}  # suspects of one death that wait, and where they died
        self.twice: set[int] = set()  # suspects of more deaths that wait
        self.again: dict[int, set[int]] = {}  # suspects of one death that run again
        self.held: dict[int, set[int]] = {}
        self.apart: set[int] = set()
        self.gone: set[int] = set()
        self.given_up: set[int] = set()
        self.deaths = dict.fromkeys(requests, 0)
        self.killed: dict[int, list[int]] = {index: [] for index in requests}
        self.workers, self.proven = workers, proven
        self.queue = Dispatcher(np.array(requests, np.int64), workers, proven=proven)

    @rule(worker=WORKERS, limit=LIMITS)
    def take(self, worker, limit):
        held = self.held.setdefault(worker, set())
        before, pending = set(held), list(self.pending)
        share = -(-self._unfinished() // max(1, self.workers))
        taken = self.queue.take(worker, limit).tolist()
        held.update(taken)
        assert len(before) + len(taken) == len(held)
        again = [index for index in taken if index in self.once]
        alone = [index for index in taken if index in self.twice]
        room = max(0, min(limit, share) - len(before) - len(again))
        if worker in self.apart:
            assert not taken
        elif alone:
            assert len(held) == 1
            assert not pending
            self.apart.add(worker)
        elif pending:
            assert [index for index in taken if index not in again] == pending[:room]
            assert not [index for index in again if self.workers > 1 and self.once[index] == worker]
        elif not before:
            assert bool(taken) == bool(self.once or any(self._may(worker, i) for i in self.twice))
        self._move(worker, taken)
        assert len(self.again[worker]) <= SUSPECTS_TOGETHER

    def _move(self, worker, taken):
        self.again.setdefault(worker, set()).update(set(taken) & set(self.once))
        self.twice -= set(taken)
        self.pending = [index for index in self.pending if index not in taken]
        for index in taken:
            self.once.pop(index, None)

    @rule(worker=WORKERS, data=st.data())
    def finish(self, worker, data):
        held = sorted(self.held.get(worker, ()))
        if not held:
            return
        answered = data.draw(st.lists(st.sampled_from(held), unique=True, min_size=1))
        self.queue.finish(worker, answered)
        self.held[worker] -= set(answered)
        self.gone |= set(answered)
        self.again.get(worker, set()).difference_update(answered)
        self.proven = True
        if not self.held[worker]:
            self.apart.discard(worker)

    @precondition(lambda self: self.all)
    @rule(worker=WORKERS, data=st.data())
    def finish_what_is_not_held(self, worker, data):
        held = self.held.get(worker, set())
        strange = sorted(self.all - held) or [-1]
        answered = [*sorted(held)[:2], data.draw(st.sampled_from(strange))]
        with pytest.raises(Stray):
            self.queue.finish(worker, answered)

    @rule(worker=WORKERS)
    def lose(self, worker):
        lost, apart = self.held.pop(worker, set()), worker in self.apart
        self.apart.discard(worker)
        hopeless = set(self.queue.lose(worker))
        for index in lost:
            self.deaths[index] += 1
            assert self.queue.deaths_of(index) == self.deaths[index]
        if apart and len(lost) == 1:
            (alone,) = lost
            killed = self.killed[alone]
            killed.append(worker)
            guilty = self.proven and len(killed) >= DEATHS_ALONE
            guilty = guilty and (len(set(killed)) > 1 or self.workers == 1)
            assert hopeless == (lost if guilty else set())
        else:
            assert not hopeless
        self.given_up |= hopeless
        more = lost if apart else lost & self.again.pop(worker, set())
        self.twice |= more - hopeless
        self.once.update(dict.fromkeys(lost - more, worker))

    @precondition(lambda self: self.workers > 1)
    @rule()
    def retire(self):
        self.workers -= 1
        self.queue.retire()

    @invariant()
    def every_request_is_in_one_place(self):
        if not hasattr(self, "queue"):
            return
        waiting = [set(self.pending), set(self.once), self.twice]
        places = [*waiting, self.gone, self.given_up, *self.held.values()]
        assert sum(map(len, places)) == len(self.all)
        assert set().union(*places) == self.all
        assert self.queue.in_flight == sum(map(len, self.held.values()))
        assert self.queue.pending == sum(map(len, waiting))
        assert self.queue.unfinished == self._unfinished()

    def _may(self, worker, index):
        killed = set(self.killed[index])
        return worker not in killed or len(killed) >= self.workers

    def _unfinished(self):
        return len(self.all) - len(self.gone) - len(self.given_up)

    def teardown(self):
        """From wherever it is, a single worker that lives brings it to its end."""
        if not hasattr(self, "queue"):
            return
        for worker in range(1, 5):
            self.lose(worker)
        while self.workers > 1:
            self.retire()
        for _ in range(2 * len(self.all) + 1):
            self.take(0, 10)
            self.queue.finish(0, sorted(self.held[0]))
            self.gone |= self.held[0]
            self.held[0] = set()
            self.again[0] = set()
            self.apart.discard(0)
        assert self.queue.unfinished == 0


TestQueue = Queue.TestCase
TestQueue.__doc__ = (
    "No request is lost or held twice, suspects run apart, and only who died alone is given up."
)


def play(requests, workers, limit, guilty, dice):
    """Workers that die of guilty requests and of nothing else; gives the answered and the given up."""
    queue = Dispatcher(np.arange(requests), workers)
    held: dict[int, list[int]] = {worker: [] for worker in range(workers)}
    answered, given_up = set(), set()
    for _ in range(40 * (requests + 1) * (len(guilty) + 1)):
        if not queue.unfinished:
            break
        worker = dice.randrange(workers)
        held[worker] += queue.take(worker, limit).tolist()
        dice.shuffle(held[worker])
        if guilty & set(held[worker]) and dice.random() < 0.5:
            given_up |= set(queue.lose(worker))
            held[worker] = []
            continue
        done = [index for index in held[worker] if index not in guilty][: dice.randint(0, 8)]
        if done:
            queue.finish(worker, done)
            answered |= set(done)
            held[worker] = [index for index in held[worker] if index not in done]
    return queue, answered, given_up


@given(
    requests=st.integers(1, 120),
    workers=st.integers(1, 4),
    limit=st.integers(1, 64),
    share=st.sampled_from([0.0, 0.02, 0.1, 0.5]),
    seed=st.integers(0, 2**32),
)
def test_the_guilty_are_found_and_nobody_else_is_given_up(requests, workers, limit, share, seed):
    """Whatever the order of deaths, each request that kills is given up, and every other one is answered."""
    dice = random.Random(seed)
    guilty = {index for index in range(requests) if dice.random() < share}
    queue, answered, given_up = play(requests, workers, limit, guilty, dice)
    if len(guilty) == requests:
        assert not given_up  # nothing ever worked: the engine may be to blame
        return
    assert given_up == guilty
    assert answered == set(range(requests)) - guilty
    assert queue.unfinished == 0


@given(
    requests=st.integers(1, 60),
    workers=st.integers(2, 4),
    limit=st.integers(1, 64),
    seed=st.integers(0, 2**32),
)
def test_a_worker_that_dies_of_everything_gets_nobody_blamed(requests, workers, limit, seed):
    """A broken device kills whatever it is given: no request is given up for that, and all are answered."""
    dice = random.Random(seed)
    queue = Dispatcher(np.arange(requests), workers, proven=True)
    for _ in range(60 * requests * workers):
        worker = dice.randrange(workers)
        taken = queue.take(worker, limit).tolist()
        if worker == 0:
            assert queue.lose(0) == []
        elif taken:
            queue.finish(worker, taken)
    assert queue.unfinished == 0


@given(
    requests=st.integers(1, 60),
    workers=st.integers(1, 4),
    limit=st.integers(1, 64),
    seed=st.integers(0, 2**32),
)
def test_an_engine_that_never_answers_gets_nobody_blamed(requests, workers, limit, seed):
    """However often workers die, before the first answer no request is given up, and none is lost."""
    dice = random.Random(seed)
    queue = Dispatcher(np.arange(requests), workers)
    for _ in range(300):
        worker = dice.randrange(workers)
        queue.take(worker, limit)
        if dice.random() < 0.5:
            assert queue.lose(worker) == []
    assert queue.unfinished == requests
