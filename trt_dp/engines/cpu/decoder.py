"""What the CPU engine asks of whatever decodes: the paged pipeline, or static batches."""

from __future__ import annotations

from collections import deque
from typing import Literal, Protocol

import numpy as np
from msgspec import Struct

from trt_dp.types import Request, Sampling

BLOCK = 32
"""Tokens in a block of the KV cache, fixed by OpenVINO on a CPU."""

Precision = Literal["exact", "fast"]
Facts = dict[str, str | int | float]


class DecoderSettings(Struct, frozen=True):
    """How to decode; all of it is decided before a decoder is made."""

    precision: Precision
    max_sequences: int
    max_batched_tokens: int
    blocks: int
    prefix_caching: bool
    threads: int
    sampling: Sampling
    eos: frozenset[int]  # empty: nothing ends early


class Ended(Struct, frozen=True):
    """A sequence that has ended; `problem` says what went wrong with it."""

    index: int
    output_ids: list[int]
    problem: str | None = None


class Step(Struct, frozen=True):
    """What one step brought: the sequences that got their first token, and those that ended."""

    first: list[int]
    ended: list[Ended]


class Decoder(Protocol):
    """Sequences in progress on a loaded model: each waits for its first token, runs, or has ended."""

    lookahead: int
    """How many requests should wait for those in progress to end."""

    def take(self, waiting: deque[Request]) -> list[Request]:
        """Remove from `waiting`, and start, what has room to its very end: nothing started is ever interrupted."""

    def step(self) -> Step:
        """Advance by a token, or by a piece of the prompts; called only while something is in progress."""

    def facts(self) -> Facts:
        """How it decodes, and what it has done."""


def blocks_of(request: Request) -> int:
    """The KV blocks that a request can come to need."""
    return -(-(len(request.input_ids) + request.output_tokens) // BLOCK)


def stream_seed(sampling: Sampling, index: int) -> int:
    """The seed of a request's own random stream, in the 32 bits that OpenVINO looks at."""
    mixed = np.random.SeedSequence((sampling.seed % 2**64, index))
    return int(mixed.generate_state(1)[0])
