from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trt_dp.coordinator.order.choose import Known, choose
from trt_dp.coordinator.order.contract import SUSPECTS_TOGETHER
from trt_dp.coordinator.queue.blame import given_up
from trt_dp.coordinator.queue.dispatcher import Dispatcher, Stray
from trt_dp.coordinator.queue.quarantine import DEATHS_ALONE

CAPACITY = 256


def dispatcher(requests: int, workers: int) -> Dispatcher:
    return Dispatcher(np.arange(requests), workers, proven=True)


def take(queue: Dispatcher, worker: int, limit: int = CAPACITY) -> list[int]:
    return queue.take(worker, limit).tolist()


def test_requests_leave_in_the_order_of_the_file():
    """The shared queue hands out what is pending in its order, whoever asks."""
    queue = Dispatcher(np.array([2, 3, 5, 7, 11, 13]), 3, proven=True)
    assert take(queue, 0, 1) == [2]
    assert take(queue, 2, 2) == [3, 5]
    assert take(queue, 1, 1) == [7]


def test_a_worker_never_holds_more_than_its_credit():
    """A worker gets as many as it has room for, and nothing while it is full."""
    queue = dispatcher(1000, 2)
    assert len(take(queue, 0, 10)) == 10
    assert take(queue, 0, 10) == []
    queue.finish(0, [3, 4])
    assert take(queue, 0, 10) == [10, 11]
    assert queue.in_flight == 10
    assert queue.pending == 988
    assert queue.unfinished == 998


def test_a_worker_may_lower_its_credit():
    """A worker that holds more than it now may gets nothing, and loses nothing."""
    queue = dispatcher(100, 1)
    take(queue, 0, 10)
    assert take(queue, 0, 5) == []
    assert queue.in_flight == 10


def test_the_last_requests_are_spread():
    """With room for all in one worker, two workers share what there is in halves."""
    queue = dispatcher(100, 2)
    assert len(take(queue, 0)) == 50
    assert len(take(queue, 1)) == 50
    assert queue.pending == 0


@pytest.mark.parametrize("workers", [1, 2, 3, 7, 16])
@pytest.mark.parametrize("requests", [1, 5, 16, 100, 1001])
def test_nobody_hoards_the_rest(requests, workers):
    """However they take turns, no worker ever holds more than its share of what is unfinished."""
    queue, held = dispatcher(requests, workers), [[] for _ in range(workers)]
    while queue.unfinished:
        share = -(-queue.unfinished // workers)
        for worker in range(workers):
            before = len(held[worker])
            taken = take(queue, worker)
            held[worker] += taken
            assert not taken or before + len(taken) <= share
        for worker in range(workers):
            queue.finish(worker, held[worker][:5])
            del held[worker][:5]
    assert held == [[]] * workers


def test_a_retired_worker_leaves_its_share_to_the_others():
    """When a worker will not come back, the remaining one may hold all that is left."""
    queue = dispatcher(100, 2)
    assert len(take(queue, 0)) == 50
    queue.retire()
    assert len(take(queue, 0)) == 50


def test_nothing_pending_gives_nothing():
    """An empty queue has nothing to give and nothing unfinished."""
    queue = dispatcher(0, 2)
    assert take(queue, 0) == []
    assert queue.unfinished == 0


STRAYS = {
    "never taken": [50],
    "another worker's": [0, 1, 10],
    "twice at once": [0, 0],
    "finished before": [9],
    "not a request": [-1],
    "good ones among bad ones": [1, 2, 3, 5000],
}


@pytest.mark.parametrize("answered", STRAYS.values(), ids=STRAYS.keys())
def test_a_stray_answer_changes_nothing(answered):
    """An answer to what the worker does not hold is refused whole, the good ones in it too."""
    queue = dispatcher(1000, 2)
    take(queue, 0, 10)
    take(queue, 1, 10)
    queue.finish(0, [9])
    before = (queue.in_flight, queue.pending, queue.unfinished)
    with pytest.raises(Stray):
        queue.finish(0, answered)
    assert (queue.in_flight, queue.pending, queue.unfinished) == before
    queue.finish(0, range(9))
    queue.finish(1, range(10, 20))
    assert queue.in_flight == 0


def test_a_worker_that_holds_nothing_cannot_answer():
    """An answer from a worker that never took anything, or has died, is a stray."""
    queue = dispatcher(10, 2)
    with pytest.raises(Stray):
        queue.finish(0, [0])
    taken = take(queue, 0)
    queue.lose(0)
    with pytest.raises(Stray):
        queue.finish(0, taken)


def test_what_a_dead_worker_held_runs_again_at_once_in_another():
    """Suspects of a first death go before all pending requests, and nobody is given up for one death."""
    queue = dispatcher(100, 2)
    take(queue, 0, 10)
    assert queue.lose(0) == []
    assert take(queue, 1, 20) == list(range(20))
    assert take(queue, 0, 20) == list(range(20, 40))


def test_a_worker_that_comes_back_does_not_get_its_own_suspects_beside_other_work():
    """They go to another worker; it gets its own only when it has nothing else, or is the only one."""
    queue = dispatcher(12, 2)
    assert take(queue, 0, 6) == list(range(6))
    queue.lose(0)
    rest = take(queue, 0, 6)
    assert rest == list(range(6, 12))
    queue.finish(0, rest)
    assert take(queue, 0, 6) == list(range(6))
    lonely = dispatcher(12, 1)
    take(lonely, 0, 6)
    lonely.lose(0)
    assert take(lonely, 0, 12) == list(range(12))


def test_at_most_sixteen_suspects_run_beside_other_work_in_a_worker():
    """However many wait, a worker has sixteen of them at a time, and others fill the rest of its batch."""
    queue = dispatcher(200, 2)
    take(queue, 0, 40)
    queue.lose(0)
    assert take(queue, 1, 50) == [*range(16), *range(40, 74)]
    queue.finish(1, [3, 40, 41])
    assert take(queue, 1, 50) == [16, 74, 75]
    assert take(queue, 1, 50) == []


def test_suspects_that_see_a_second_death_run_alone_when_nothing_else_is_pending():
    """What was only near them runs again beside others; they themselves wait for an empty worker each."""
    queue = dispatcher(60, 2)
    take(queue, 0, 2)
    queue.lose(0)
    assert take(queue, 1, 4) == [0, 1, 2, 3]
    assert queue.lose(1) == []
    seen = []
    while len(seen) < 58:
        taken = take(queue, 0, 30)
        assert taken
        assert not {0, 1} & set(taken)
        queue.finish(0, taken)
        seen += taken
    assert sorted(seen) == list(range(2, 60))
    assert take(queue, 0, 30) == [0]
    assert take(queue, 0, 30) == []
    assert take(queue, 1, 30) == [1]
    queue.finish(0, [0])
    queue.finish(1, [1])
    assert queue.unfinished == 0


def test_a_request_that_kills_takes_other_work_down_twice_at_most():
    """With two full workers, one killer costs both once; then it runs alone, and all others are answered."""
    queue, deaths_with_others = dispatcher(400, 2), 0
    while queue.unfinished:
        for worker in range(2):
            taken = take(queue, worker, 50)
            if 7 in taken:
                deaths_with_others += len(taken) > 1
                queue.lose(worker)
            else:
                queue.finish(worker, taken)
    assert deaths_with_others == 2


def test_suspects_of_a_small_worker_come_in_its_size():
    """A group larger than the credit is given in parts, and no part is lost."""
    queue = dispatcher(16, 1)
    take(queue, 0)
    queue.lose(0)
    found = []
    while queue.unfinished:
        group = take(queue, 1, 5)
        assert 1 <= len(group) <= 5
        queue.finish(1, group)
        found += group
    assert sorted(found) == list(range(16))


def test_a_group_that_kills_again_is_run_one_by_one():
    """After a second death each of the group runs alone, once the groups that have died once are through."""
    queue = dispatcher(32, 1)
    take(queue, 0)
    queue.lose(0)
    assert take(queue, 0) == list(range(16))
    assert queue.lose(0) == []
    assert take(queue, 0) == list(range(16, 32))
    queue.finish(0, range(16, 32))
    for index in range(16):
        assert take(queue, 0) == [index]
        queue.finish(0, [index])
    assert queue.unfinished == 0


def test_a_request_is_given_up_after_killing_twice_alone():
    """One more try is made after the first death alone; the second gives the request up."""
    queue = dispatcher(2, 1)
    take(queue, 0)
    assert queue.lose(0) == []
    assert take(queue, 0) == [0, 1]
    assert queue.lose(0) == []
    assert take(queue, 0) == [0]
    assert queue.lose(0) == []
    assert take(queue, 0) == [0]
    assert queue.lose(0) == [0]
    assert queue.deaths_of(0) == 4
    assert queue.deaths_of(1) == 2
    assert take(queue, 0) == [1]
    queue.finish(0, [1])
    assert queue.unfinished == 0


def test_the_first_death_of_a_lone_request_is_no_proof():
    """A request that happened to be the only one held when a worker died is not given up early."""
    queue = dispatcher(1, 1)
    deaths = 0
    while queue.unfinished:
        assert take(queue, 0) == [0]
        gone = queue.lose(0)
        deaths += 1
        assert gone == ([0] if deaths == 2 + DEATHS_ALONE else [])
    assert deaths == 2 + DEATHS_ALONE


@pytest.mark.parametrize("guilty", [{0}, {31}, {63}, {17, 40}, set(range(16)), set()])
def test_of_many_in_flight_only_the_guilty_are_given_up(guilty):
    """A worker with 64 requests dies whenever it runs a guilty one: all others are answered, once."""
    queue = dispatcher(64, 1)
    answered, abandoned, deaths = [], [], 0
    while queue.unfinished:
        taken = take(queue, 0)
        assert taken
        if guilty & set(taken):
            abandoned += queue.lose(0)
            deaths += 1
        else:
            queue.finish(0, taken)
            answered += taken
    assert sorted(abandoned) == sorted(guilty)
    assert sorted(answered) == sorted(set(range(64)) - guilty)
    # one death of all, one of each group with a guilty one, two of each guilty one alone
    groups = {index // SUSPECTS_TOGETHER for index in guilty}
    assert deaths == (1 if guilty else 0) + len(groups) + DEATHS_ALONE * len(guilty)


def test_killers_among_few_others_cost_few_deaths_without_an_answer():
    """Of what is left, every eighth kills a worker that takes eight: answers and give-ups come between its deaths."""
    queue, guilty = dispatcher(32, 1), set(range(0, 32, 8))
    in_vain, worst, answered = 0, 0, 0
    while queue.unfinished:
        taken = queue.take(0, 8).tolist()
        in_vain = in_vain + 1 if guilty & set(taken) else 0
        worst = max(worst, in_vain)
        if not guilty & set(taken):
            queue.finish(0, taken)
            answered += len(taken)
        elif queue.lose(0):
            in_vain = 0
    assert worst <= 3 + DEATHS_ALONE
    assert answered == 32 - len(guilty)


def test_answers_that_came_before_a_death_stand():
    """What was answered before the worker died does not come again."""
    queue = dispatcher(10, 1)
    take(queue, 0)
    queue.finish(0, range(7))
    queue.lose(0)
    assert queue.unfinished == 3
    assert take(queue, 0) == [7, 8, 9]
    assert queue.deaths_of(0) == 0
    assert queue.deaths_of(8) == 1


def test_losing_an_idle_worker_costs_nothing():
    """A worker that held nothing gives back nothing, however often it dies."""
    queue = dispatcher(3, 2)
    assert queue.lose(0) == []
    assert queue.lose(0) == []
    assert queue.unfinished == 3


def test_a_resumed_run_hands_out_only_what_is_pending():
    """Indices are places in the file and need not be consecutive."""
    queue = Dispatcher(np.array([3, 900_000, 7]), 1, proven=True)
    taken = take(queue, 0)
    assert taken == [3, 900_000, 7]
    queue.lose(0)
    assert sorted(take(queue, 0)) == [3, 7, 900_000]


def test_the_reason_of_giving_up_is_told():
    """The failure says how the worker ended and how many workers died."""
    failure = given_up("killed by signal 9", 4)
    assert failure.kind == "worker_died"
    assert "killed by signal 9" in failure.message
    assert failure.attempts == 4


class World:
    """Workers around a dispatcher, and what a reader of the design would keep in mind about them."""

    def __init__(self, requests: int, workers: int, guilty: set[int]) -> None:
        self.queue = dispatcher(requests, workers)
        self.everything = set(range(requests))
        self.guilty = guilty
        self.held: dict[int, set[int]] = {worker: set() for worker in range(workers)}
        self.suspects: set[int] = set()
        self.twice: set[int] = set()
        self.answered: set[int] = set()
        self.given_up: set[int] = set()

    def take(self, worker: int, limit: int) -> None:
        before = self.held[worker]
        room = limit - len(before)
        taken = take(self.queue, worker, limit)
        assert len(taken) <= max(0, room)
        assert len(set(taken)) == len(taken)
        for other in (*self.held.values(), self.answered, self.given_up):
            assert not set(taken) & other
        before |= set(taken)
        assert len(self.suspects & before) <= SUSPECTS_TOGETHER
        if self.twice & before:
            assert len(before) == 1
        self.check()

    def answer(self, worker: int, count: int) -> None:
        done = [i for i in sorted(self.held[worker]) if i not in self.guilty][:count]
        self.queue.finish(worker, done)
        self.held[worker] -= set(done)
        self.answered |= set(done)
        self.check()

    def die(self, worker: int) -> None:
        lost, self.held[worker] = self.held[worker], set()
        gone = set(self.queue.lose(worker))
        assert gone <= lost
        self.twice |= lost & self.suspects
        self.suspects |= lost
        self.given_up |= gone
        self.check()

    def check(self) -> None:
        held = set().union(*self.held.values())
        assert self.queue.in_flight == len(held)
        gone = self.answered | self.given_up
        assert self.queue.unfinished == len(self.everything - gone)
        assert self.queue.pending == len(self.everything - gone - held)

    def end(self) -> int:
        """Run on with workers that die of guilty requests only; returns how many rounds it took."""
        rounds = 0
        while self.queue.unfinished:
            rounds += 1
            assert rounds < 20 * (len(self.everything) + 1), "the run does not end"
            for worker in self.held:
                self.take(worker, 8)
                if self.held[worker] & self.guilty:
                    self.die(worker)
                else:
                    self.answer(worker, 8)
        return rounds


@given(st.data())
def test_nothing_is_lost_whatever_happens_in_whatever_order(data):
    """Under any mixture of taking, answering and dying nothing is lost or held twice, and the run ends."""
    requests = data.draw(st.integers(0, 60), "requests")
    workers = data.draw(st.integers(1, 4), "workers")
    guilty = data.draw(st.sets(st.integers(0, 59), max_size=3), "guilty") & set(range(requests))
    world = World(requests, workers, guilty)
    steps = st.tuples(
        st.sampled_from(["take", "take", "answer", "die"]),
        st.integers(0, workers - 1),
        st.integers(1, 40),
    )
    for what, worker, number in data.draw(st.lists(steps, max_size=40), "steps"):
        if what == "take":
            world.take(worker, number)
        elif what == "answer":
            world.answer(worker, number)
        else:
            world.die(worker)
    given_up_by_chance = set(world.given_up)
    world.end()
    assert world.answered | world.given_up == world.everything
    assert not world.answered & world.given_up
    assert world.given_up - given_up_by_chance - guilty == set()
    assert guilty <= world.given_up


def test_an_engine_that_never_answered_is_to_blame_itself():
    """Before any answer nothing is given up; once the engine has answered, what kills it alone is."""
    queue = Dispatcher(np.arange(2), 1)
    for _ in range(6):
        assert len(queue.take(0, 1))
        assert queue.lose(0) == []
    (index,) = queue.take(0, 1).tolist()
    queue.finish(0, [index])
    given_up = []
    for _ in range(DEATHS_ALONE):
        assert len(queue.take(0, 1))
        lost = queue.lose(0)
        given_up += lost
        if lost:
            break
    assert [1 - index] == given_up


def test_a_guilty_first_request_does_not_keep_the_others_from_proving_the_engine():
    """While nothing was answered yet, a request that died alone goes behind the other suspects."""
    queue = Dispatcher(np.arange(3), 1)
    assert take(queue, 0) == [0, 1, 2]
    queue.lose(0)
    assert take(queue, 0) == [0, 1, 2]
    queue.lose(0)
    assert take(queue, 0) == [0]
    assert queue.lose(0) == []
    for innocent in (1, 2):
        assert take(queue, 0) == [innocent]
        queue.finish(0, [innocent])
    assert take(queue, 0) == [0]
    assert queue.lose(0) == [0]


@pytest.mark.parametrize("order", ["file", "longest", "lanes"])
def test_workers_that_are_still_to_come_keep_their_share(order):
    """Whatever the order, the first worker that is ready takes an equal share and leaves the rest to the others."""
    pending = np.arange(24)
    known = Known(
        pending=pending,
        prompts=np.full(24, 10),
        limits=np.array([60] * 20 + [400] * 4),
        exact=False,
        earlier=np.arange(1, 25),
        clock=lambda: 0.0,
    )
    dispatcher = Dispatcher(choose(order, known).order, 2)
    taken = sum(len(dispatcher.take(0, 160)) for _ in range(10))
    assert 1 <= taken <= 12
    assert len(dispatcher.take(1, 160)) >= 1


def test_what_a_lost_host_had_goes_next_and_is_no_suspect():
    """The loss of a host is no request's fault: what was in flight runs at once and is never given up."""
    queue = dispatcher(100, 4)
    assert take(queue, 0, 20) == list(range(20))
    assert take(queue, 1, 20) == list(range(20, 40))
    for _ in range(5):
        assert queue.lose(0, innocent=True) == []
        assert queue.deaths_of(3) == 0
        assert take(queue, 0, 20) == list(range(20))
    queue.finish(0, range(20))
    assert take(queue, 0, 20) == list(range(40, 60))


def test_a_suspect_on_a_lost_host_is_not_blamed():
    """One that ran apart when its host was lost runs apart again, and is no nearer to being given up."""
    queue = dispatcher(1, 2)
    assert take(queue, 0) == [0]
    assert queue.lose(0) == []
    assert take(queue, 0) == [0]
    for _ in range(5):
        assert queue.lose(0, innocent=True) == []
        assert take(queue, 1) == [0]
        assert queue.lose(1, innocent=True) == []
        assert take(queue, 0) == [0]
    assert queue.deaths_of(0) == 1


def test_workers_that_join_later_get_their_share():
    """Once more workers are to come, nobody takes what is theirs."""
    queue = dispatcher(100, 1)
    queue.enlist(3)
    assert len(take(queue, 0)) == 25
    queue.retire()
    assert len(take(queue, 1)) == 34
