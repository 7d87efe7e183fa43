from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from trt_dp.dataset.json_row import from_json
from trt_dp.errors import RequestRefused
from trt_dp.types import MOST_TOKENS, Defaults, EngineSpec, Sampling
from trt_dp.worker.asked import Row, copy_index, place_of
from trt_dp.worker.resolve import Rules, asked_of, sampling_of

RULES = Rules(EngineSpec("cpu"), Defaults(), detokenize=False)
IDS = np.arange(1, 4)


def fields(**row: object):
    return from_json(json.dumps({"input_ids": [1, 2, 3], **row}).encode())


def asked(index: int = 0, rules: Rules = RULES, **row: object):
    return asked_of(Row(index, fields(**row), 0.0), IDS, rules)


def run(**settings: object) -> Rules:
    """Rules of a run with these flags."""
    names = Sampling.__struct_fields__
    sampling = {name: value for name, value in settings.items() if name in names}
    rest = {name: value for name, value in settings.items() if name not in names}
    return structs.replace(RULES, defaults=Defaults(sampling=Sampling(**sampling), **rest))


def test_a_stop_string_that_mixes_a_special_token_with_text_is_refused_by_name():
    """Texts of answers leave the token out, so such a string would never be found."""
    rules = structs.replace(RULES, hidden={"<|end|>": 9})
    with pytest.raises(RequestRefused, match=r"`stop` has 'x<\|end\|>'.* give it alone"):
        asked(0, rules, stop=["x<|end|>"])
    (found,) = asked(0, rules, stop=["<|end|>", "x"], stop_token_ids=[4, 9]).requests
    assert (found.sampling.stop, found.sampling.stop_token_ids) == (("x",), (4, 9))
    assert found.stop_names == {9: "<|end|>"}


def test_a_row_wins_over_the_run():
    """What a row says is used, and what it does not say comes from the run."""
    rules = run(temperature=0.5, top_k=7, presence_penalty=1.0)
    (found,) = asked(0, rules, temperature=0.9, top_p=0.3, presence_penalty=0).requests
    wanted = (0.9, 7, 0.3, 0.0)
    sampling = found.sampling
    assert wanted == (
        sampling.temperature,
        sampling.top_k,
        sampling.top_p,
        sampling.presence_penalty,
    )


@pytest.mark.parametrize(
    ("row", "rules", "length", "ignores"),
    [
        ({"output_tokens": 5}, RULES, 5, True),
        ({"output_tokens": 5}, run(stop_at_eos=True), 5, False),
        ({"output_tokens": 5, "ignore_eos": False}, RULES, 5, False),
        ({"max_tokens": 5}, RULES, 5, False),
        ({"max_tokens": 5}, run(ignore_eos=True), 5, True),
        ({"max_tokens": 5, "ignore_eos": True}, RULES, 5, True),
        ({}, RULES, MOST_TOKENS, False),
        ({}, run(max_tokens=9), 9, False),
        ({}, structs.replace(RULES, context=100), 97, False),
        ({}, structs.replace(RULES, context=2), 1, False),
        ({"max_tokens": 500}, structs.replace(RULES, context=100), 500, False),
    ],
)
def test_how_long_an_answer_may_be_and_whether_an_eos_ends_it(row, rules, length, ignores):
    """A benchmark row keeps its exact length; any other ends at its EOS, and has a limit of its own or of the run."""
    (found,) = asked(0, rules, **row).requests
    assert (found.output_tokens, found.sampling.ignore_eos) == (length, ignores)


def test_a_rows_own_seed_alone_decides_its_stream():
    """With a seed of its own a row has the same stream in any place; otherwise the run's seed and its place make it."""
    rules, own = run(temperature=1.0, seed=3), {"seed": -1}
    assert asked(1, rules, **own).requests[0].sampling.seed == 2**64 - 1
    assert asked(9, run(temperature=1.0, seed=4), **own).requests[0].sampling.seed == 2**64 - 1
    seeds = {asked(index, rules).requests[0].sampling.seed for index in range(200)}
    assert len(seeds) == 200
    assert asked(7, rules).requests[0].sampling.seed in seeds
    assert asked(7, run(temperature=1.0, seed=4)).requests[0].sampling.seed not in seeds


def test_greedy_answers_ask_for_nothing_that_only_draws_use():
    """At temperature 0 an engine is not asked for a top_p that it may not know."""
    found = sampling_of(0, fields(temperature=0, top_p=0.5, min_p=0.2, top_k=4, seed=8), Defaults())
    assert found == Sampling()


@pytest.mark.parametrize(
    ("row", "name", "value"),
    [
        ({"stop": "x"}, "stop", ("x",)),
        ({"stop": ["x", "y"]}, "stop", ("x", "y")),
        ({"stop": None}, "stop", ()),
        ({"top_k": -1, "temperature": 1}, "top_k", 0),
        ({"logprobs": True}, "logprobs", 1),
        ({"logprobs": 0}, "logprobs", 1),
        ({"logprobs": False}, "logprobs", None),
        ({"stop_token_ids": [4]}, "stop_token_ids", (4,)),
    ],
)
def test_other_ways_to_say_the_same(row, name, value):
    """OpenAI's and vLLM's spellings mean one thing to an engine."""
    assert getattr(asked(0, **row).requests[0].sampling, name) == value


def test_what_the_engine_cannot_do_is_refused_by_name():
    """A row that asks for it is refused, and no other."""
    echo = structs.replace(RULES, engine=EngineSpec("echo"))
    with pytest.raises(RequestRefused, match="echo does not support `repetition_penalty`"):
        asked(0, echo, repetition_penalty=1.2)
    assert asked(0, echo, temperature=1, stop=["a"], repetition_penalty=1.0)


def test_a_least_length_above_the_runs_limit_is_refused():
    """min_tokens above what the answer may have is that row's failure."""
    with pytest.raises(RequestRefused, match="`min_tokens` is 10"):
        asked(0, run(max_tokens=9), min_tokens=10)


def test_several_answers_are_requests_of_their_own():
    """N requests differ in index and seed alone, and the first is the one that would be alone."""
    row = {"temperature": 1.0, "max_tokens": 4}
    found = asked(5, **row, n=4).requests
    assert found[0] == asked(5, **row).requests[0]
    assert len({one.index for one in found}) == len({one.sampling.seed for one in found}) == 4
    assert [place_of(one.index) for one in found] == [(5, copy) for copy in range(4)]


@given(st.integers(0, 2**40 - 1), st.integers(0, 1023))
def test_an_engines_index_tells_the_row_and_the_answer(index, copy):
    """Each pair has an index of its own, from which both come back."""
    assert place_of(copy_index(index, copy)) == (index, copy)
