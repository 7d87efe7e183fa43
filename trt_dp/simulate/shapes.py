"""What requests look like: how long their answers are, and what a dataset says about that."""

from __future__ import annotations

from statistics import NormalDist
from typing import Literal

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

Lengths = NDArray[np.int64]
Name = Literal["fixed", "normal", "long-tail", "bimodal", "sixteen-k"]

TAIL_SIGMA = 1.0
TAIL_LONGEST = 8192


class Workload(Struct, frozen=True, kw_only=True):
    """Requests: their prompts and outputs in tokens, their max_tokens, and the group and prefix of each."""

    prompts: Lengths
    outputs: Lengths
    limits: Lengths
    groups: Lengths
    prefixes: Lengths
    prefix_tokens: int = 0

    def __len__(self) -> int:
        """How many requests."""
        return len(self.outputs)


def lengths(name: Name, count: int, dice: np.random.Generator) -> Lengths:
    """Output lengths of this shape."""
    if name == "fixed":
        return np.full(count, 128)
    if name == "normal":
        return whole(dice.normal(512, 128, count), 2048)
    if name == "bimodal":
        return np.where(dice.random(count) < 0.9, 128, 2048)
    if name == "sixteen-k":
        return whole(dice.lognormal(np.log(2000), 1.2, count), 16384)
    return whole(dice.lognormal(np.log(660) - TAIL_SIGMA**2 / 2, TAIL_SIGMA, count), TAIL_LONGEST)


def whole(drawn: NDArray[np.float64], longest: int) -> Lengths:
    """Whole numbers of tokens, from 1 to the longest."""
    return np.clip(np.round(drawn), 1, longest).astype(np.int64)


def workload(outputs: Lengths, *, prompt: int = 0, limit: int | None = None) -> Workload:
    """Requests with these outputs, whose max_tokens is `limit`, or exactly what they need."""
    count = len(outputs)
    nothing = np.full(count, -1)
    limits = outputs if limit is None else np.full(count, limit)
    return Workload(
        prompts=np.full(count, prompt),
        outputs=outputs,
        limits=limits,
        groups=nothing,
        prefixes=nothing,
    )


def grouped(count: int, groups: int, dice: np.random.Generator) -> Workload:
    """A long tail that comes from groups, told apart by the length of their prompts; within one the spread is 0.5."""
    group = dice.integers(0, groups, count)
    within = 0.5
    between = np.sqrt(TAIL_SIGMA**2 - within**2)
    places = [NormalDist().inv_cdf((n + 0.5) / groups) for n in range(groups)]
    medians = np.log(660) - TAIL_SIGMA**2 / 2 + between * np.array(places)
    drawn = whole(np.exp(medians[group] + dice.normal(0, within, count)), TAIL_LONGEST)
    return replace(workload(drawn, limit=TAIL_LONGEST), prompts=2 ** (group % 16))


def sampled_prompts(dice: np.random.Generator) -> Workload:
    """32 prompts of 500 tokens with 16 samples each, of up to 16 K; samples of a prompt are about equally long."""
    medians = np.repeat(dice.normal(np.log(2500), 0.9, 32), 16)
    drawn = whole(np.exp(medians + dice.normal(0, 0.3, 512)), 16384)
    groups = np.repeat(np.arange(32), 16)
    return replace(workload(drawn, prompt=500), groups=groups)


def shared_prefixes(dice: np.random.Generator) -> Workload:
    """200 prefixes of 4,096 tokens, with 32 requests each in random order, whose own prompts and answers are short."""
    count, own = 6400, 64
    prefixes = dice.permutation(np.repeat(np.arange(200), count // 200))
    outputs = whole(dice.normal(64, 16, count), 256)
    plain = workload(outputs, prompt=4096 + own)
    return replace(plain, prefixes=prefixes, prefix_tokens=4096)
