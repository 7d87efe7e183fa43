"""Whether lanes or longest first: by what the KV caches hold."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
from conftest import read_lines, trt_dp
from msgspec.structs import replace

from trt_dp.coordinator.order.choose import Known, choose
from trt_dp.coordinator.order.contract import Asking
from trt_dp.coordinator.order.fitting import Fitting, tokens_held
from trt_dp.simulate.cases import CASES, engines
from trt_dp.simulate.engine import EngineShape
from trt_dp.simulate.shapes import lengths, workload
from trt_dp.simulate.study import study
from trt_dp.simulate.world import Setting


def test_a_request_in_flight_holds_its_prompt_and_half_of_its_answer():
    """Long answers are in flight for longer, so they count for more."""
    assert tokens_held(np.array([100.0, 100.0]), np.array([10.0, 10.0])) == 105
    assert tokens_held(np.array([0.0, 0.0]), np.array([10.0, 90.0])) == (10 * 5 + 90 * 45) / 100


@pytest.mark.parametrize(
    ("kv_tokens", "longest_first"), [(0, False), (500_000, False), (100_000, True)]
)
def test_the_first_worker_that_asks_decides(kv_tokens, longest_first):
    """Full batches of 256 hold about 230,000 tokens here; what is not known is taken to be ample."""
    outputs = lengths("long-tail", 20_000, np.random.default_rng(0))
    said: list[str] = []
    known = Known(
        pending=np.arange(len(outputs)),
        prompts=np.zeros(len(outputs), np.int64),
        limits=outputs,
        exact=True,
        earlier=None,
        clock=lambda: 0.0,
        say=said.append,
    )
    order = choose("auto", known).order
    assert isinstance(order, Fitting)
    asking = Asking(
        worker=0, in_flight=0, limit=256, unfinished=20_000, workers=8, kv_tokens=kv_tokens
    )
    taken = order.take(asking)
    assert (outputs[taken].max() == outputs.max()) == longest_first
    assert bool(said) == longest_first
    assert all("the KV cache holds 100,000 tokens" in line for line in said)


@pytest.mark.parametrize("admission", ["reserve", "optimistic"])
def test_where_the_cache_is_small_auto_is_as_fast_as_longest_first(admission):
    """A few workers are not given many of the longest, which would wait for each other there."""
    shape = EngineShape(kv_tokens=44_000, admission=admission)
    made = partial(lengths, "long-tail", 4000)
    setting = Setting(shapes=engines(shape, 4))
    case = replace(CASES[0], make=lambda dice: workload(made(dice)), setting=setting)
    auto, longest = (study(case, order, [0]).trials[0].seconds for order in ("auto", "longest"))
    assert auto <= 1.01 * longest


def test_a_run_says_what_was_decided(tmp_path, stand_ins):
    """An engine tells how much its cache holds, and the run says which order that means."""
    rows = [{"input_ids": [5, 6], "output_tokens": 1 + n % 90} for n in range(400)]
    dataset = tmp_path / "requests.jsonl"
    dataset.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = trt_dp("run", dataset, "--engine", "cramped", "--output", tmp_path / "run", env=stand_ins)
    assert "order: longest first after all, because the KV cache holds 100 tokens" in run.stderr
    assert len(read_lines(tmp_path / "run" / "results.jsonl")) == 400
