"""What every order promises, whatever happens in whatever order."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from trt_dp.coordinator.order import choose as choose_module
from trt_dp.coordinator.order.choose import NAMES, Known, check_name, choose, group_requests
from trt_dp.coordinator.order.contract import Answered
from trt_dp.coordinator.order.even import EvenOrder
from trt_dp.coordinator.order.file import FileOrder
from trt_dp.coordinator.order.fitting import Fitting
from trt_dp.coordinator.order.guess import Exact, Learned
from trt_dp.coordinator.order.lanes import Lanes
from trt_dp.coordinator.order.plan import Load, Task, make_plan
from trt_dp.coordinator.order.ranked import Ranked
from trt_dp.coordinator.order.step_time import StepShape, StepTime
from trt_dp.coordinator.queue.dispatcher import Dispatcher
from trt_dp.errors import UsageError
from trt_dp.simulate.cases import CASES, engines
from trt_dp.simulate.engine import EngineShape
from trt_dp.simulate.shapes import lengths, workload
from trt_dp.simulate.step_models import Linear
from trt_dp.simulate.study import simulate, study
from trt_dp.simulate.world import Setting


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def known(limits, *, exact=True, earlier=None, prompts=None, clock=None) -> Known:
    limits = np.array(limits)
    return Known(
        pending=np.arange(len(limits)),
        prompts=np.zeros(len(limits), int) if prompts is None else np.array(prompts),
        limits=limits,
        exact=exact,
        earlier=None if earlier is None else np.array(earlier),
        clock=clock or Clock(),
    )


@given(st.data())
@pytest.mark.parametrize("name", NAMES)
def test_each_request_leaves_once_and_no_worker_idles_while_work_waits(name, data):
    """Under any mixture of takes, answers, odd clocks, deaths and retirements, every request is answered once."""
    limits = data.draw(st.lists(st.integers(1, 5000), min_size=1, max_size=300), "lengths")
    exact = data.draw(st.booleans(), "exact")
    workers = data.draw(st.integers(1, 4), "workers")
    capacity = data.draw(st.integers(1, 20), "capacity")
    clock = Clock()
    knows = known(limits, exact=exact, prompts=limits, clock=clock)
    groups = data.draw(st.lists(st.integers(-1, 5), min_size=len(limits), max_size=len(limits)))
    order = choose(name, replace(knows, prefixes=lambda: np.array(groups))).order
    queue = Dispatcher(order, workers, proven=True)
    held = {worker: [] for worker in range(workers)}
    answered, deaths = set(), 2  # two deaths convict nobody
    for _ in range(40 * len(limits) + 200):
        if not queue.unfinished:
            break
        worker = (
            data.draw(st.integers(0, workers - 1))
            if len(answered) < 20
            else len(held) and max(held, key=lambda w: (len(held[w]), w))
        )
        for asked in range(workers):
            pending = len(order)
            taken = queue.take(asked, capacity).tolist()
            assert len(held[asked]) + len(taken) <= capacity
            assert not set(taken) & answered
            if pending and not held[asked]:
                assert taken, "idle while work waits"
            held[asked] += taken
        clock.now += data.draw(st.sampled_from([0.0, 0.001, 5.0])) if len(answered) < 20 else 0.1
        if deaths and data.draw(st.integers(0, 3), "dies") == 0:
            deaths -= 1
            queue.lose(worker)
            held[worker] = []
        done, held[worker] = held[worker][:7], held[worker][7:]
        if done:
            queue.finish(worker, done)
            tokens = np.array([limits[index] for index in done])
            seconds = tokens * 0.01 - 0.01
            order.learn(Answered(worker, np.array(done), tokens, seconds))
            assert not set(done) & answered
            answered |= set(done)
    assert answered == set(range(len(limits)))


def test_the_file_s_order_is_the_default() -> None:
    """A dispatcher without an order gives requests out as they come."""
    assert Dispatcher(np.array([4, 2, 9]), 1).take(0, 3).tolist() == [4, 2, 9]


def test_longest_deals_the_longest_evenly() -> None:
    """With two workers each gets every other one of the longest, so that neither has all of them."""
    order = choose("longest", known([1, 2, 3, 4, 5, 6, 7, 8])).order
    queue = Dispatcher(order, 2)
    assert queue.take(0, 2).tolist() == [7, 5]
    assert queue.take(1, 2).tolist() == [6, 4]


def test_suspects_of_a_death_are_tried_longest_first() -> None:
    """The longest requests of a dead worker need the most time, so they are first when suspects run."""
    queue = Dispatcher(choose("lanes", known([10, 500, 30, 400])).order, 1, proven=True)
    assert len(queue.take(0, 4)) == 4
    queue.lose(0)
    assert queue.take(0, 2).tolist() == [1, 3]


def test_auto_knows_exact_lengths() -> None:
    """Where answers are as long as asked for, auto takes lanes and says why."""
    chosen = choose("auto", known([1, 2, 3]))
    assert isinstance(chosen.order, Fitting)
    assert chosen.why == "order: lanes, because the length of every answer is known"


def test_auto_keeps_the_file_s_order_where_nothing_is_known() -> None:
    """With the same max_tokens and like prompts for all, nothing tells long answers from short ones."""
    chosen = choose("auto", known([100, 100, 100], exact=False))
    assert isinstance(chosen.order, FileOrder)
    assert "nothing tells long answers from short ones" in chosen.why


def test_auto_learns_groups_and_earlier_runs() -> None:
    """Different max_tokens or prompts make groups; the lengths of an earlier run are used where there is one."""
    assert "2 groups" in choose("auto", known([100, 200, 100], exact=False)).why
    chosen = choose("auto", known([100, 100], exact=False, earlier=[3, 70]))
    assert "earlier run" in chosen.why


def test_an_unknown_order_is_refused_by_name() -> None:
    """The sentence lists the orders that there are."""
    with pytest.raises(
        UsageError, match="--order fastest: it must be one of auto, file, longest, lanes"
    ):
        check_name("fastest")


def test_lengths_of_a_run_that_nothing_would_use_are_refused() -> None:
    """Where every answer is as long as asked for, an earlier run has nothing to add."""
    with pytest.raises(UsageError, match="--lengths-from has no effect here"):
        choose("auto", known([1, 2], earlier=[1, 2]))


def test_groups_are_of_like_requests() -> None:
    """Requests are alike if max_tokens is the same and prompts are of the same power of two."""
    groups = group_requests(np.array([100, 120, 300, 100]), np.array([8, 8, 8, 9]))
    assert groups[0] == groups[1]
    assert len(set(groups.tolist())) == 3


@given(st.lists(st.integers(1, 50), max_size=80), st.data())
def test_ranked_takes_the_longest_that_fits(lengths, data):
    """Whatever was taken before, the next is the longest of those that are left and not too long."""
    ranked = Ranked(np.arange(len(lengths)), np.array(lengths, float))
    left = dict(enumerate(lengths))
    while left:
        longest = data.draw(st.integers(1, 60))
        room = data.draw(st.integers(1, 5))
        fitting = sorted((n for n in left.values() if n <= longest), reverse=True)[:room]
        taken = ranked.take(room, longest).tolist()
        assert [left.pop(index) for index in taken] == fitting
        if not taken:
            shortest = min(left.values())
            assert left.pop(int(ranked.take_shortest(1)[0])) == shortest
        assert sorted(left.values()) == ranked.rising().tolist()


def test_learned_lengths_find_the_medians_of_groups() -> None:
    """From answers that are known and from requests that still run, medians come out within a tenth."""
    dice = np.random.default_rng(0)
    groups = dice.integers(0, 2, 4000)
    lengths = np.array([100, 800])[groups] * np.exp(dice.normal(0, 0.5, 4000))
    guess = Learned(np.full(4000, 300.0), groups, np.full(4000, 1e5), 0.8)
    ended = np.flatnonzero(lengths < 600)
    runs = np.flatnonzero(lengths >= 600)
    guess.learn(ended, np.round(lengths[ended]).astype(int))
    assert guess.refresh(runs, np.full(len(runs), 600.0))
    for group, median in ((0, 100), (1, 800)):
        found = float(guess.medians(np.flatnonzero(groups == group)[:1])[0])
        assert abs(found / median - 1) < 0.1
    assert abs(guess.sigma - 0.5) < 0.05


def test_learned_lengths_turn_wrong_predictions_round() -> None:
    """Where long answers were predicted short and the other way round, the expected order is turned."""
    dice = np.random.default_rng(0)
    lengths = np.exp(dice.normal(6, 1, 2000))
    guess = Learned(1e6 / lengths, np.zeros(2000, int), np.full(2000, 1e6), 0.5)
    guess.learn(np.arange(500), np.round(lengths[:500]).astype(int))
    guess.refresh(np.empty(0, int), np.empty(0))
    found = guess.medians(np.arange(500, 2000))
    assert np.corrcoef(np.log(found), np.log(lengths[500:]))[0, 1] > 0.95


def test_exact_lengths_leave_what_is_left() -> None:
    """What a request still has to do is its length less what is done, never below nothing."""
    rests, _ = Exact(np.array([10.0, 20.0])).rests(np.array([0, 1]), np.array([15.0, 5.0]))
    assert rests.tolist() == [0.0, 15.0]


def test_equally_long_answers_leave_in_the_order_of_the_file():
    """Where no order can be better, auto takes the cheapest and says why."""
    known = Known(
        pending=np.arange(100),
        prompts=np.full(100, 2048),
        limits=np.full(100, 128),
        exact=True,
        earlier=None,
        clock=lambda: 0.0,
    )
    chosen = choose("auto", known)
    assert isinstance(chosen.order, EvenOrder)
    assert chosen.why == "order: as in the file, because all answers are equally long"


def test_equal_answers_end_in_equal_batches():
    """Where workers are in step, the last batch of each has as many requests as the others'."""
    order = EvenOrder(np.arange(2 * 10 + 2 * 6))
    queue = Dispatcher(order, 2)
    sizes = []
    while queue.unfinished:
        batches = [queue.take(worker, 10).tolist() for worker in range(2)]
        sizes.append([len(batch) for batch in batches])
        for worker, batch in enumerate(batches):
            queue.finish(worker, batch)
    assert sizes == [[10, 10], [6, 6]]


def test_a_worker_that_is_done_takes_half_of_what_a_slow_one_has_left():
    """The quota of a worker that never asks is used up by the others."""
    order = EvenOrder(np.arange(64))
    queue, taken = Dispatcher(order, 2), []
    for _ in range(40):
        some = queue.take(0, 4).tolist()
        queue.finish(0, some)
        taken += some
    assert sorted(taken) == list(range(64))


def test_a_worker_whose_quota_ends_fills_up_from_the_largest():
    """It does not run a small batch because its quota had little left."""
    queue = Dispatcher(EvenOrder(np.arange(60)), 2)
    first = queue.take(0, 20).tolist()
    queue.finish(0, first)
    assert len(queue.take(0, 20)) == 20  # ten of its own, and ten of the other's thirty


def test_what_came_back_too_late_for_full_batches_goes_to_one_worker_at_once():
    """A long request that lost its worker halfway starts at once where the batch is to shrink for it."""
    pending = np.full(2000, 100.0)
    loads = [
        Load(worker=0, limit=64, rests=np.full(64, 50.0), work=3200.0, again=16),
        Load(worker=1, limit=64, rests=np.full(64, 90.0), work=5760.0, again=16),
    ]
    for long, late in ((1000.0, False), (3000.0, True)):
        task = Task(
            loads=loads,
            pending=pending,
            work=float(pending.sum()) + 8960 + long,
            steps=StepTime(StepShape(1 / 64, 0.0, 0.01)),
            again=np.array([long]),
        )
        plan = make_plan(task, 0.0)
        assert plan.wards == ({0: long} if late else {})
        assert (plan.caps[0] < 64) == late
        assert plan.caps[1] == 64
        assert plan.end >= long * 0.01


def test_what_is_too_long_for_full_batches_goes_to_one_worker_beside_what_it_has():
    """Short requests in flight everywhere do not spread the longest over all workers: one takes them at once."""
    pending, long = np.full(15_000, 100.0), np.full(20, 8000.0)
    rests = np.full(32, 300.0)
    task = Task(
        loads=[Load(worker=n, limit=64, rests=rests, work=9600.0) for n in range(4)],
        pending=np.concatenate([pending, long]),
        work=float(pending.sum() + long.sum()) + 4 * 9600,
        steps=StepTime(StepShape(1 / 64, 0.0, 0.01)),
    )
    plan = make_plan(task, 0.0)
    ((lane, count),) = plan.lanes.items()
    assert count == 20
    assert 20 <= plan.caps.pop(lane) < 64
    assert set(plan.caps.values()) == {64}
    assert plan.end < 8000 * 0.02  # what a full batch would take for them


def test_many_workers_end_as_near_the_bound_as_few():
    """With four times the workers and requests, a long tail costs no more than it did."""
    few, many = (_long_tail(workers) for workers in (8, 32))
    assert many > 93
    assert many > few - 1


def _long_tail(workers: int) -> float:
    """Percent of the bound, in virtual time, of engines with 32 slots and 250 requests for each."""
    shape = EngineShape(model=Linear(overhead=0.006, per_sequence=0.00018), slots=32)
    made = partial(lengths, "long-tail", 250 * workers)
    setting = Setting(shapes=engines(shape, workers))
    case = replace(CASES[0], make=lambda dice: workload(made(dice)), setting=setting)
    return study(case, "auto", [0]).trials[0].efficiency


def test_step_times_are_learnt_from_answers():
    """After a run, the time of a full batch and of each token of KV cache are known within a hundredth."""
    dice, clock = np.random.default_rng(0), Clock()
    outputs = np.clip(dice.lognormal(5, 1, 3000), 1, 2000).astype(int)
    work = workload(outputs, prompt=50)
    order = Lanes(np.arange(3000), Exact(outputs.astype(float)), clock, work.prompts.astype(float))
    model = Linear(overhead=0.01, per_sequence=2e-5, per_kv_token=2e-8)
    setting = Setting(shapes=(EngineShape(model=model, slots=64),) * 2)
    simulate(work, setting, order, clock)
    steps = order.steps
    assert steps.seconds(0, 64, 0.0) == pytest.approx(0.01 + 64 * 2e-5, rel=0.01)
    assert steps.shape.per_kv_token * steps.shape.seconds == pytest.approx(2e-8, rel=0.01)


@pytest.mark.parametrize("exact", [True, False])
def test_where_no_order_can_be_noticed_the_files_is_taken(exact):
    """Millions of requests, none of them long, end together in any order; one long one among them is worth an order."""
    limits = np.tile(np.arange(1, 17), 300_000)
    chosen = choose("auto", known(limits, exact=exact))
    assert isinstance(chosen.order, FileOrder)
    assert "with 4,800,000 requests the last ones are less than 2% of the run" in chosen.why
    limits[7] = 10_000
    assert not choose_module._too_many(known(limits))
