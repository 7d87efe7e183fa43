"""What one engine of vLLM's answers on a CPU: sampling, log-probabilities, forms, and what it must not see."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import checkpoints
import numpy as np
import pytest
import vllm_models
from msgspec import structs
from vllm_models import COUNT, IGNORE, answers, made, request

from trt_dp.engines.vllm.engine import VllmEngine
from trt_dp.errors import RequestRefused
from trt_dp.tokenizer import open_tokenizer
from trt_dp.types import Form, Request, Result, Sampling

pytestmark = vllm_models.NEEDED


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A llama with a tokenizer of letters."""
    return vllm_models.add_tokenizer(
        vllm_models.variant(tmp_path_factory.mktemp("vllm") / "m", "llama")
    )


@pytest.fixture(scope="module")
def engine(model) -> Iterator[VllmEngine]:
    """One engine for the tests that need no options."""
    found = made(model)
    yield found
    found.close()


def drawn(index: int, seed: int, **more: object) -> Request:
    """A sampled request."""
    wish = structs.replace(IGNORE, temperature=1.0, seed=seed, **more)
    return request(index, checkpoints.prompts(128)[index % 4], sampling=wish)


def test_the_seed_alone_makes_the_random_stream(engine):
    """Each sampled answer is the same alone and among others, whatever its seed; another seed gives another."""
    asked = [drawn(n, seed=[7, 2**64 - 1, 2**63, 0][n % 4], top_p=0.95) for n in range(16)]
    together = answers(engine, *asked)
    for one in asked[:5]:
        assert answers(engine, one)[one.index].output_ids == together[one.index].output_ids
    other = structs.replace(asked[0], sampling=structs.replace(asked[0].sampling, seed=8))
    assert answers(engine, other)[0].output_ids != together[0].output_ids


def test_sampling_settings_are_heeded(engine):
    """Top-k of 1 and a high min_p are greedy; a penalty changes the answer; min_tokens holds off a stop id."""
    ids = checkpoints.prompts(128)[1]
    (plain,) = answers(engine, request(0, ids)).values()
    greedy = [drawn(1, 3, top_k=1), drawn(5, 4, min_p=1.0)]
    assert {tuple(one.output_ids) for one in answers(engine, *greedy).values()} == {
        tuple(plain.output_ids)
    }
    for setting in ("repetition_penalty", "presence_penalty", "frequency_penalty"):
        wish = structs.replace(IGNORE, **{setting: 2.0})
        (found,) = answers(engine, request(0, ids, sampling=wish)).values()
        assert found.output_ids != plain.output_ids, setting
    stop = plain.output_ids[2]
    wish = structs.replace(IGNORE, stop_token_ids=(stop,))
    (short,) = answers(engine, request(0, ids, sampling=wish)).values()
    assert (short.output_ids, short.stop_reason) == (plain.output_ids[:2], stop)
    wish = structs.replace(wish, min_tokens=6)
    (longer,) = answers(engine, request(0, ids, sampling=wish)).values()
    assert len(longer.output_ids) >= 6


def test_logprobs_are_those_of_transformers(engine, model):
    """Each number is what the model itself finds of that token, without temperature or penalties."""
    from trt_dp.builders.cpu.reference import Reference

    ids = checkpoints.prompts(128)[1]
    wish = structs.replace(IGNORE, logprobs=1, temperature=0.7, seed=3, presence_penalty=1.0)
    (found,) = answers(engine, request(0, ids, sampling=wish)).values()
    scores = Reference(model).logits(ids + found.output_ids)[len(ids) - 1 : -1]
    table = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    wanted = table[np.arange(COUNT), found.output_ids]
    assert np.abs(wanted - found.logprobs).max() < 1e-3


def test_a_stop_string_ends_the_work(engine, model):
    """An answer is left once its stop string is there; what came until then is as it ever was."""
    ids = [1, 40, 41]
    (whole,) = answers(engine, request(0, ids, 60)).values()
    word = open_tokenizer(str(model)).decode(whole.output_ids[20:22])
    wish = structs.replace(IGNORE, stop=(word,))
    found = answers(engine, request(0, ids, 60, wish), request(1, ids, 60))
    assert found[0].output_ids == whole.output_ids[: len(found[0].output_ids)]
    assert len(found[0].output_ids) <= 22
    assert found[1].output_ids == whole.output_ids


def text(result: Result) -> str:
    """An answer's letters."""
    return "".join(chr(one + 29) for one in result.output_ids)


def test_answers_have_the_form_that_was_asked_for(engine):
    """A choice, a pattern and JSON are kept to; what is no grammar is refused, and the engine stays well."""
    schema = '{"type":"object","properties":{"a":{"enum":[7]}},"required":["a"],"additionalProperties":false}'
    forms = [
        Form("choice", '["yes","no"]'),
        Form("regex", "[0-9]{3}"),
        Form("regex", '\\{"a": 7\\}'),
        Form("grammar", 'root ::= "ab" | "cd"'),
    ]
    asked = [
        request(n, [1, 40, 41], 40, Sampling(structured_outputs=form, temperature=n / 2, seed=n))
        for n, form in enumerate([*forms, Form("json", schema)])
    ]
    found = answers(engine, *asked)
    assert text(found[0]) in ("yes", "no")
    assert re.fullmatch("[0-9]{3}", text(found[1]))
    assert text(found[2]) == '{"a": 7}'
    assert text(found[3]) in ("ab", "cd")
    assert text(found[4]).lstrip().startswith("{")
    for bad in (Form("regex", "(["), Form("json", '{"type":"nope"}')):
        with pytest.raises(RequestRefused, match="vLLM"):
            engine.submit(request(9, [1], sampling=Sampling(structured_outputs=bad)))
    assert len(answers(engine, request(9, [1]))[9].output_ids) == COUNT


def test_a_bad_id_does_not_reach_vllm(engine):
    """Beyond the vocabulary, vLLM would raise in a step; beyond the context, it would end early in silence."""
    for asked in (request(0, [1, 128]), request(0, [-1]), request(0, [1] * 500, 13)):
        with pytest.raises(RequestRefused):
            engine.submit(asked)
    full = answers(engine, request(0, [1] * 500, 12))
    assert len(full[0].output_ids) == 12


def test_progress_is_what_an_answer_grew_by(engine):
    """Step by step its ids and log-probabilities are told, and they begin the answer; others are not told of."""
    wish = structs.replace(IGNORE, logprobs=1)
    for index in (0, 1):
        engine.submit(request(index, [1, 40, 41], COUNT, wish))
    told, found = [], {}
    while len(found) < 2:
        found |= {one.index: one for one in engine.step()}
        told += engine.progress({0} - found.keys())
    assert {one.index for one in told} == {0}
    assert len(told) == COUNT - 1
    assert [one for part in told for one in part.output_ids] == found[0].output_ids[:-1]
    assert [one for part in told for one in part.logprobs] == found[0].logprobs[:-1]
