"""What the CPU engine asks of whatever decodes: the paged pipeline, or static batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Literal, Protocol

import numpy as np
from msgspec import Struct

from trt_dp.text.stop_strings import Watch
from trt_dp.tokenizer import Tokenizer
from trt_dp.types import Progress, Request

BLOCK = 32
"""Tokens in a block of the KV cache, fixed by OpenVINO on a CPU."""

Precision = Literal["exact", "fast"]
Facts = dict[str, str | int | float]
OpenTokenizer = Callable[[], Tokenizer | None]


class DecoderSettings(Struct, frozen=True):
    """How to decode; all of it is decided before a decoder is made."""

    precision: Precision
    max_sequences: int
    max_batched_tokens: int
    blocks: int
    prefix_caching: bool
    threads: int
    eos: frozenset[int]
    open_tokenizer: OpenTokenizer = lambda: None  # called once a request has stop strings


class Ended(Struct, frozen=True):
    """A sequence that has ended, with the id that ended it; `problem` says what went wrong with it."""

    request: Request
    output_ids: list[int]
    logprobs: list[float]  # empty where they are not wanted
    problem: str | None = None


class Found(Struct, frozen=True):
    """The ids of an answer so far."""

    output_ids: list[int]
    logprobs: list[float]


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

    def progress(self, indexes: AbstractSet[int]) -> list[Progress]:
        """The ids of these that no earlier call told, without one that stops them."""

    def cancel(self, index: int) -> None:
        """Forget one in progress: it is not among those that end."""

    def facts(self) -> Facts:
        """How it decodes, and what it has done."""


def blocks_of(request: Request) -> int:
    """The KV blocks that a request can come to need."""
    return -(-(len(request.input_ids) + request.output_tokens) // BLOCK)


def stops_of(request: Request, eos: frozenset[int]) -> frozenset[int]:
    """The ids that end this request's answer."""
    sampling = request.sampling
    own = frozenset(sampling.stop_token_ids)
    return own if sampling.ignore_eos else own | eos


class Told(Struct):
    """How many ids of an answer were told as progress."""

    ids: int = 0

    def tell(self, request: Request, found: Found, stops: frozenset[int]) -> Progress | None:
        """The ids since the last time; the one that stops the answer is not part of it."""
        upto = len(found.output_ids)
        upto -= bool(found.output_ids) and found.output_ids[-1] in stops
        begin, self.ids = self.ids, max(upto, self.ids)
        if begin >= upto:
            return None
        rated = request.sampling.logprobs is not None
        logprobs = [round(value, 5) for value in found.logprobs[begin:upto]] if rated else None
        return Progress(request.index, found.output_ids[begin:upto], logprobs)


def watch_of(request: Request, open_tokenizer: OpenTokenizer) -> Watch | None:
    """What looks for the request's stop strings while its answer grows."""
    sampling = request.sampling
    if not sampling.stop or (tokenizer := open_tokenizer()) is None:
        return None
    return Watch(tokenizer, sampling.stop, sampling.min_tokens)


def stream_seed(seed: int) -> int:
    """The seed of a request's own random stream, in the 32 bits that OpenVINO looks at."""
    return int(np.random.SeedSequence(seed % 2**64).generate_state(1)[0])
