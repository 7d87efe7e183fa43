"""The simulator against what is known exactly, and orders against each other in it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from trt_dp.coordinator.order.choose import Known, choose
from trt_dp.coordinator.queue.dispatcher import Dispatcher
from trt_dp.simulate.bounds import all_at_once, best_packing, best_split, bound, bound_of_present
from trt_dp.simulate.cases import CASES, EQUAL
from trt_dp.simulate.engine import Demand, Engine, EngineShape
from trt_dp.simulate.shapes import lengths, workload
from trt_dp.simulate.step_models import Linear, Roofline
from trt_dp.simulate.study import looks, simulate, study, trial
from trt_dp.simulate.world import Clock, Fault, Setting, World

FLAT = Linear(overhead=1.0, per_sequence=0.0)


def run(outputs, shapes, name="file", **setting):
    """One simulated run, and its result."""
    work, clock = workload(np.array(outputs)), Clock()
    known = Known(
        pending=np.arange(len(work)),
        prompts=work.prompts,
        limits=work.limits,
        exact=True,
        earlier=None,
        clock=clock,
    )
    return simulate(work, Setting(shapes=shapes, **setting), choose(name, known).order, clock)


@given(st.lists(st.integers(1, 300), min_size=1, max_size=40))
def test_all_admitted_at_once_take_what_the_closed_form_says(outputs):
    """Where there is a slot for each, the time is the sum of tau(j) (L_j - L_j+1)."""
    model = Linear()
    found = run(outputs, (EngineShape(model=model, slots=64),)).seconds
    assert found == pytest.approx(all_at_once(outputs, model))


@settings(max_examples=30)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=7), st.sampled_from(["longest", "lanes"]))
def test_no_order_beats_the_exact_optimum_of_small_cases(outputs, name):
    """With steps that always take the same time, time is never below the best packing, nor 4/3 above it and a bit."""
    shapes = (EngineShape(model=FLAT, slots=2),) * 2
    best = best_packing(outputs, 4)
    found = run(outputs, shapes, name).seconds
    assert best <= found + 1e-9
    if name == "longest":
        assert found <= best * 4 / 3 + max(outputs)


@settings(max_examples=20)
@given(st.lists(st.integers(1, 60), min_size=2, max_size=7))
def test_no_order_beats_the_best_split(outputs):
    """With room for all, no order is faster than the best way to deal requests out to two engines."""
    model = Linear(overhead=0.01, per_sequence=0.01)
    shapes = (EngineShape(model=model, slots=8),) * 2
    best = best_split(outputs, 2, model)
    for name in ("file", "longest", "lanes"):
        assert best <= run(outputs, shapes, name).seconds + 1e-9


@given(st.lists(st.integers(1, 200), min_size=1, max_size=30), st.integers(1, 5))
def test_the_bound_is_one(outputs, slots):
    """No order is faster than the bound."""
    shapes = (EngineShape(slots=slots), EngineShape(slots=slots, speed=0.7))
    for name in ("file", "lanes"):
        assert (
            run(outputs, shapes, name).seconds >= bound(workload(np.array(outputs)), shapes) - 1e-9
        )


@pytest.mark.parametrize("model", [Linear(), Linear(per_kv_token=1e-7), Roofline()])
def test_many_steps_at_once_take_as_long_as_one_by_one(model) -> None:
    """An engine that is stopped at many moments ends when one that is left alone does."""
    demands = [Demand(n, 100, 50 + 13 * n, 50 + 13 * n) for n in range(20)]
    alone, watched = (
        Engine(EngineShape(model=model, slots=8)),
        Engine(EngineShape(model=model, slots=8)),
    )
    for demand in demands:
        alone.submit(demand)
        watched.submit(demand)
    alone.settle(0.0)
    watched.settle(0.0)
    while alone.batch:
        alone.advance()
    moment = 0.0
    while watched.batch:
        moment += 0.0137
        while watched.next_event() <= moment:
            watched.advance()
        watched.settle(moment)
    assert watched.spent.last == pytest.approx(alone.spent.last, rel=1e-9)


def test_preempted_requests_are_computed_again() -> None:
    """An engine that admits more than its KV cache can hold preempts the youngest, and ends later."""

    def end(kv_tokens):
        shape = EngineShape(
            model=Linear(per_prefill_token=1e-4), slots=8, prefills=True, kv_tokens=kv_tokens
        )
        engine = Engine(replace(shape, admission="optimistic"))
        for n in range(8):
            engine.submit(Demand(n, 10, 100, 100))
        engine.settle(0.0)
        while engine.batch or engine.next_event() < float("inf"):
            engine.advance()
        return engine.clock, engine.spent.preemptions

    roomy, tight = end(8 * 110), end(4 * 110)
    assert roomy[1] == 0
    assert tight[1] > 0
    assert tight[0] > roomy[0]


def test_reserving_max_tokens_costs_concurrency_and_no_preemption() -> None:
    """An engine that reserves runs fewer at once, and never preempts."""
    engine = Engine(EngineShape(slots=8, kv_tokens=450, admission="reserve"))
    for n in range(8):
        engine.submit(Demand(n, 10, 50, 100))
    engine.settle(0.0)
    assert engine.batch == 4
    while engine.batch:
        engine.advance()
    assert engine.spent.preemptions == 0


def test_a_cached_prefix_is_not_computed_again() -> None:
    """The second request with a prefix costs only what is its own; the cache forgets the prefix unused longest."""

    def prefilled(prefixes, cache):
        engine = Engine(EngineShape(model=Linear(), prefills=True, prefix_cache_tokens=cache))
        for n, prefix in enumerate(prefixes):
            engine.submit(Demand(n, 110, 1, 1, prefix, 100))
        engine.settle(0.0)
        while engine.next_event() < float("inf"):
            engine.advance()
        return engine.spent.prefilled

    assert prefilled([1, 1], 1000) == 110 + 10
    assert prefilled([1, 2, 1], 100) == 3 * 110
    assert prefilled([1, 2, 1], 200) == 2 * 110 + 10


def test_a_crash_loses_nothing_and_is_the_quarantine_s() -> None:
    """Requests of a worker that died are all answered in the end, by others or by its successor."""
    outputs = lengths("normal", 2000, np.random.default_rng(1))
    fault = Fault(worker=0, at=2.0, back_after=1.0)
    crashed = run(outputs, EQUAL.shapes, "lanes", faults=(fault,))
    assert crashed.given_up == 0
    assert np.isfinite(crashed.completed).all()
    assert sum(spent.repeated for spent in crashed.spent) > 0


def test_a_late_worker_gets_work() -> None:
    """A worker that joins late takes its part."""
    outputs = lengths("normal", 4000, np.random.default_rng(1))
    late = run(outputs, EQUAL.shapes[:2], "lanes", ready_at=(0.0, 5.0))
    assert min(spent.busy for spent in late.spent) > 1.0


def test_the_same_seed_gives_the_same_run() -> None:
    """A study can be repeated."""
    case = replace(CASES[1], make=lambda dice: workload(lengths("normal", 500, dice)))
    first, second = (study(case, "auto", [3]).trials[0] for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("fixed 128", 98.5),
        ("normal 512 +- 128", 98.5),
        ("long tail", 93.5),
        ("normal, one of 8 at 70 %", 96),
        ("long tail, crash halfway, back after 60 s", 82),
    ],
)
def test_auto_is_near_the_bound(name, least) -> None:
    """With exact lengths, auto reaches what it is there for."""
    case = next(case for case in CASES if case.name == name)
    assert study(case, "auto", [7]).efficiency >= least


def test_auto_is_no_worse_than_longest_first_in_short_queues() -> None:
    """With two requests for each slot there is nothing to learn from, and no batch is kept small on a mere belief."""
    case = next(case for case in CASES if case.name == "2,048 requests up to 16 K, roofline")
    ours, plain = (study(case, order, [3]).efficiency for order in ("auto", "longest"))
    assert ours >= 0.97 * plain


def test_the_bound_of_present_engines_leaves_out_who_is_away() -> None:
    """One of two engines away for as long as the other works alone: the bound grows by half of that time."""
    work = workload(np.full(20_000, 100))
    shapes = EQUAL.shapes[:2]
    plain = bound(work, shapes)
    fault = Fault(worker=0, at=plain / 4, back_after=plain / 2)
    found = bound_of_present(work, Setting(shapes=shapes, faults=(fault,)))
    assert found == pytest.approx(plain * 5 / 4)
    late = bound_of_present(work, Setting(shapes=shapes, ready_at=(0.0, plain / 2)))
    assert late == pytest.approx(plain * 5 / 4)
    assert bound_of_present(work, Setting(shapes=shapes)) == pytest.approx(plain)


def test_nothing_is_in_two_workers() -> None:
    """The world gives the dispatcher back exactly what it took."""
    work, clock = workload(np.full(300, 5)), Clock()
    queue = Dispatcher(np.arange(300), 8)
    done = World(work, EQUAL, clock).run(queue)
    assert np.isfinite(done.completed).all()
    assert queue.unfinished == 0


def test_a_cancelled_request_leaves_nothing_behind() -> None:
    """An engine forgets what is cancelled, waiting, prefilling or running, and the others end as if alone."""
    shape = EngineShape(model=Linear(), slots=3, prefills=True, kv_tokens=1000, token_budget=64)
    engine = Engine(shape)
    for n in range(5):
        engine.submit(Demand(n, 50, 20, 20))
    engine.settle(0.0)
    engine.advance()
    for n in (0, 1, 4):
        engine.cancel(n, engine.clock)
    ended = []
    while engine.next_event() < float("inf"):
        ended += [index for index, _ in engine.advance()]
    assert sorted(ended) == [2, 3]
    assert (engine._kv, engine._reserved) == (0, 0)


def few(name="long-tail", count=3000):
    return lambda dice: workload(lengths(name, count, dice))


SMALL = tuple(EngineShape(slots=32) for _ in range(8))


def test_copies_save_time_where_one_worker_is_very_slow() -> None:
    """In the order of the file, idle workers take over what a slow one holds up; equal workers copy nothing."""
    slow = (*SMALL[:7], EngineShape(slots=32, speed=0.2))
    for shapes, gain in ((slow, 1.2), (SMALL, 1.0)):
        case = replace(CASES[0], make=few(), setting=Setting(shapes=shapes))
        plain, copied = (trial(case, "file", 1, speculate=how) for how in (False, True))
        assert plain.seconds >= gain * copied.seconds
        assert bool(copied.copies) == (gain > 1)


@pytest.mark.parametrize("order", ["file", "longest", "auto"])
def test_the_end_is_foreseen_after_a_fifth_of_the_work(order) -> None:
    """By tokens and order it is at most 10 % off, from 20 % of the work on; counting requests is not."""
    shape = EngineShape(slots=32, model=Linear(overhead=0.006, per_sequence=0.006 / 32))
    case = replace(CASES[0], make=few(), setting=Setting(shapes=(shape,) * 8))
    found = looks(case, order, 2, (0.2, 0.5, 0.8))
    assert all(abs(look.by_tokens_and_order) <= 10 for look in found)
    assert max(abs(look.by_requests) for look in found) > 25


@pytest.mark.parametrize("alone", [False, True])
def test_answers_wait_for_prompts_only_in_engines_that_read_them_alone(alone) -> None:
    """A second prompt delays the first answer by its own step, where prompts are read alone."""
    model = Linear(overhead=1.0, per_sequence=0.0, per_prefill_token=0.0)
    engine = Engine(EngineShape(model=model, prefills=True, prefills_alone=alone))
    engine.submit(Demand(0, 10, 5, 5))
    engine.settle(0.0)
    engine.advance()
    engine.submit(Demand(1, 10, 1, 1))
    engine.settle(engine.clock)
    while engine.batch or engine.next_event() < float("inf"):
        engine.advance()
    assert engine.clock == (6.0 if alone else 5.0)
