from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from msgspec import structs
from tiny_engine import VOCABULARY, tiny_engine

from trt_dp import demo
from trt_dp.engines.cpu.engine import CpuEngine
from trt_dp.engines.cpu.sampler import Sampler
from trt_dp.errors import RequestRefused
from trt_dp.text.stop_strings import find_stop
from trt_dp.tokenizer import open_tokenizer
from trt_dp.types import EngineSpec, Placement, Request, Result, Sampling

pytest.importorskip("openvino_genai")
TO_LENGTH = Sampling(ignore_eos=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A built engine with a tokenizer, each of whose ids is a byte."""
    place = tiny_engine(tmp_path_factory.mktemp("engines") / "tiny")
    demo.write_demo(place.parent)
    (place / "tokenizer.json").write_bytes((place.parent / "tokenizer.json").read_bytes())
    return place


@pytest.fixture(scope="module")
def paged(folder) -> CpuEngine:
    return make(folder)


def make(folder: Path, **options) -> CpuEngine:
    return CpuEngine(EngineSpec("cpu", str(folder)), Placement(0, cores=(0,)), **options)


def requests(sampling: Sampling, count: int = 8, outputs: int = 40) -> list[Request]:
    random = np.random.default_rng(5)
    return [
        Request(i, i, random.integers(0, VOCABULARY, 3 + 5 * i), outputs, sampling)
        for i in range(count)
    ]


def answers(engine: CpuEngine, asked: list[Request]) -> list[Result]:
    waiting, found, busy = asked[::-1], {}, 0
    while waiting or busy:
        while waiting and busy < engine.capacity:
            engine.submit(waiting.pop())
            busy += 1
        for result in engine.step():
            found[result.index] = result
            busy -= 1
    return [found[one.index] for one in asked]


GREEDY = {
    "repetition": {"repetition_penalty": 1.4},
    "rewarded": {"repetition_penalty": 0.8},
    "presence": {"presence_penalty": 1.1},
    "frequency": {"frequency_penalty": 0.9},
    "negative": {"presence_penalty": -0.4, "frequency_penalty": -0.3},
    "all": {"repetition_penalty": 1.2, "presence_penalty": 0.4, "frequency_penalty": 0.6},
}


@pytest.mark.parametrize("settings", GREEDY.values(), ids=GREEDY)
def test_penalties_mean_what_they_mean_elsewhere(folder, paged, settings):
    """OpenVINO's tokens are those of numpy's arithmetic, with the same logprobs: those of the model alone."""
    asked = requests(structs.replace(TO_LENGTH, logprobs=1, **settings))
    plain = answers(paged, requests(TO_LENGTH))
    found, expected = answers(paged, asked), answers(make(folder, mode="static"), asked)
    assert [one.output_ids for one in found] == [one.output_ids for one in expected]
    assert [one.output_ids for one in found] != [one.output_ids for one in plain]
    for one, other in zip(found, expected, strict=True):
        assert np.allclose(one.logprobs, other.logprobs, atol=2e-4)


DRAWN = {
    "plain": {},
    "cool": {"temperature": 0.5},
    "top_k": {"temperature": 1.5, "top_k": 4},
    "top_p": {"top_p": 0.4},
    "min_p": {"min_p": 0.2},
    "hot min_p": {"temperature": 2.0, "min_p": 0.5},
    "all": {"temperature": 0.8, "top_k": 20, "top_p": 0.9, "min_p": 0.1},
}


@pytest.mark.parametrize("mode", ["paged", "static"])
@pytest.mark.parametrize("settings", DRAWN.values(), ids=DRAWN)
def test_tokens_are_drawn_as_often_as_they_should_be(folder, paged, logits, settings, mode):
    """Of a thousand seeds as many draw each token as its probability says, and none a token that was cut off."""
    engine, count = paged if mode == "paged" else make(folder, mode="static"), 1000
    sampling = structs.replace(TO_LENGTH, **{"temperature": 1.0, **settings})
    (prompt,) = requests(sampling, 1, 1)
    asked = [
        structs.replace(prompt, index=n, sampling=structs.replace(sampling, seed=n))
        for n in range(count)
    ]
    drawn = [one.output_ids[0] for one in answers(engine, asked)]
    wanted = probabilities(logits, sampling)
    shares = np.bincount(drawn, minlength=VOCABULARY) / count
    assert not shares[wanted == 0].any()
    assert np.all(np.abs(shares - wanted) <= 5 * np.sqrt(wanted / count) + 2 / count)


@pytest.fixture(scope="module")
def logits(paged) -> np.ndarray:
    """What the model says of each token after the prompt, as the logprobs of tokens drawn almost evenly."""
    (prompt,) = requests(TO_LENGTH, 1, 1)
    found = np.full(VOCABULARY, -np.inf)
    sampling = Sampling(temperature=100.0, ignore_eos=True, logprobs=1)
    for seed in range(0, 6000, 1000):
        asked = [
            structs.replace(prompt, index=n, sampling=structs.replace(sampling, seed=seed + n))
            for n in range(1000)
        ]
        for one in answers(paged, asked):
            found[one.output_ids[0]] = one.logprobs[0]
    assert np.isfinite(found).all()
    return found


def probabilities(logits: np.ndarray, sampling: Sampling) -> np.ndarray:
    """The distribution, step by step: temperature, the best k, the best that make up p, those near the best."""
    weights = np.exp(logits / sampling.temperature)
    order = np.argsort(-weights)
    kept = order[: sampling.top_k or None]
    share = weights[kept] / weights[kept].sum()
    if sampling.top_p < 1:
        kept = kept[: int(np.searchsorted(np.cumsum(share), sampling.top_p)) + 1]
    kept = kept[weights[kept] >= sampling.min_p * weights[kept[0]]]
    found = np.zeros(len(logits))
    found[kept] = weights[kept] / weights[kept].sum()
    return found


@pytest.mark.parametrize("mode", ["paged", "static"])
def test_no_stop_id_is_chosen_before_min_tokens(folder, mode):
    """Until an answer has min_tokens, the ids that would end it are left out; then they end it."""
    engine = make(folder, mode=mode)
    (asked,) = requests(TO_LENGTH, 1)
    (whole,) = answers(engine, [asked])
    stop = whole.output_ids[3]
    for least in (0, 3, 10):
        sampling = structs.replace(TO_LENGTH, stop_token_ids=(stop,), min_tokens=least)
        (found,) = answers(engine, [structs.replace(asked, sampling=sampling)])
        assert len(found.output_ids) >= least
        assert stop not in found.output_ids
        if least <= 3:
            assert (found.output_ids, found.stop_reason) == (whole.output_ids[:3], stop)


@pytest.mark.parametrize("mode", ["paged", "static"])
def test_a_stop_string_ends_the_work_too(folder, mode):
    """With a tokenizer beside the model an answer ends soon after its stop string, and others are not disturbed."""
    engine, tokenizer = make(folder, mode=mode), open_tokenizer(str(folder))
    plain = requests(TO_LENGTH, 8, 200)
    whole = answers(engine, plain)
    word = tokenizer.decode(whole[3].output_ids)[10:12]
    asked = requests(structs.replace(TO_LENGTH, stop=(word,)), 8, 200)
    mixed = [asked[n] if n % 2 else plain[n] for n in range(8)]
    for n, found in enumerate(answers(engine, mixed)):
        ids = whole[n].output_ids
        if n % 2 == 0 or word not in tokenizer.decode(ids):
            assert found.output_ids == ids
            continue
        assert found.error is None
        assert len(found.output_ids) < 200
        assert found.output_ids == ids[: len(found.output_ids)]
        assert find_stop(tokenizer, found.output_ids, [word]) == find_stop(tokenizer, ids, [word])
    assert word in tokenizer.decode(whole[3].output_ids)


@pytest.mark.parametrize("settings", [{"temperature": 1e-9}, {"temperature": 1.0, "min_p": 1.0}])
def test_what_openvino_cannot_do_is_refused_for_that_request(paged, settings):
    """Values beyond OpenVINO's limits are refused by name when the request comes."""
    with pytest.raises(RequestRefused, match=r"temperature|min_p"):
        paged.submit(Request(0, 0, np.arange(3), 4, Sampling(**settings)))


def test_the_best_token_stays_when_everything_else_is_cut():
    """However narrow the cuts are, there is a token to draw."""
    narrow = Sampling(temperature=1.0, top_k=1, top_p=1e-9, min_p=0.99)
    sampler = Sampler(Request(0, 0, np.arange(2), 1, narrow), frozenset())
    assert sampler.choose(np.array([0.1, 3.0, 2.9], np.float32), []) == 1
