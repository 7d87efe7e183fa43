"""Tokens drawn from logits: found without sorting the vocabulary, and the same as if it were sorted."""

from __future__ import annotations

import numpy as np
import pytest

from trt_dp.engines.cpu.decoder import stream_seed
from trt_dp.engines.cpu.sampler import Sampler
from trt_dp.types import Request, Sampling

CUTS = [
    *({}, {"top_k": 1}, {"top_k": 50}, {"top_k": 10**9}, {"top_p": 1e-6}, {"top_p": 0.9}),
    *({"top_p": 0.999}, {"min_p": 0.05}, {"min_p": 1.0}, {"top_k": 40, "top_p": 0.95}),
    *({"min_p": 0.02, "top_p": 0.6}, {"top_k": 9, "min_p": 0.1, "top_p": 0.8}, {"min_tokens": 3}),
]


def drawn_by_sorting(logits: np.ndarray, sampling: Sampling, drawn: float) -> int:
    """The token that a sort of the whole vocabulary, then the cuts, then the draw lead to."""
    scaled = logits.astype(np.float64) / sampling.temperature
    order = np.argsort(-scaled, kind="stable")[: sampling.top_k or None]
    weights = np.exp(scaled[order] - scaled[order[0]])
    weights /= weights.sum()
    if sampling.top_p < 1:
        weights = weights[: int(np.searchsorted(np.cumsum(weights), sampling.top_p)) + 1]
    total = np.cumsum(weights[weights >= sampling.min_p * weights[0]])
    return int(order[min(np.searchsorted(total, drawn * total[-1], "right"), len(total) - 1)])


@pytest.mark.parametrize("cut", CUTS, ids=str)
def test_a_draw_is_that_of_a_sorted_vocabulary(cut):
    """With many equal logits or none, a flat model or a sure one, hot or cold: the same token for the same seed."""
    logits = np.random.default_rng(7)
    for size in (7, 3000):
        for spread in (0.01, 1, 6):
            for temperature in (0.2, 1.0, 4.0):
                sampling = Sampling(temperature=temperature, seed=size, **cut)
                sampler = Sampler(Request(0, 0, np.arange(3), 1, sampling), frozenset())
                draws = np.random.Generator(np.random.PCG64(stream_seed(size)))
                for number in range(6):
                    found = logits.normal(0, spread, size).astype(np.float32)
                    found = found.round() if number % 2 else found
                    wanted = drawn_by_sorting(found, sampling, draws.random())
                    assert sampler.choose(found, [1, 2, 3]) == wanted


def test_a_token_that_may_not_come_yet_is_never_drawn():
    """Before min_tokens a stop id has no chance, however likely the model finds it."""
    sampling = Sampling(temperature=5.0, min_tokens=2)
    sampler = Sampler(Request(0, 0, np.arange(3), 4, sampling), frozenset({0, 1}))
    logits = np.array([9, 8, 0.1, 0.2], np.float32)
    assert {sampler.choose(logits, [2]) for _ in range(50)} == {2, 3}
