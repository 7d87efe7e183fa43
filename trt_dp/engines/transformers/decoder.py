"""What the engine asks of whatever decodes: padded batches, or transformers' continuous batching."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol

from trt_dp.engines.cpu.decoder import Ended, OpenTokenizer, Step, stops_of, watch_of
from trt_dp.engines.cpu.sampler import Logits, Sampler
from trt_dp.text.stop_strings import Watch
from trt_dp.types import Facts, Request, Sampling

_PLAIN = Sampling()


class Decoder(Protocol):
    """Sequences in progress on a loaded model: each waits for its first token, is written, or has ended.

    After `step` has raised, nothing in progress will ever end: `restart` forgets it.
    """

    lookahead: int
    """How many requests should wait for those in progress to end."""

    def take(self, waiting: deque[Request]) -> list[Request]:
        """Remove from `waiting`, and start, what has room to its very end."""

    def step(self) -> Step:
        """Work for a moment; called only while something is in progress."""

    def restart(self, *, smaller: bool) -> None:
        """Forget everything in progress, and decode fewer sequences at once if asked to; raises if it cannot go on."""

    def facts(self) -> Facts:
        """How it decodes, and what it has done."""

    def close(self) -> None:
        """Free what it holds, threads included."""


class Row:
    """A request in progress with its answer so far: it grows until it is `ended`."""

    def __init__(self, request: Request, stops: frozenset[int], watch: Watch | None) -> None:
        self.request, self.stops, self._watch = request, stops, watch
        self.output_ids: list[int] = []
        self.logprobs: list[float] = []
        self.ended = self.found_stop = False
        self.plain = is_plain(request.sampling)
        self._sampler = Sampler(request, stops)

    @property
    def watched(self) -> bool:
        """Whether a stop string may end it."""
        return self._watch is not None

    def choose(self, logits: Logits) -> int:
        """Choose the next token as the request asks for, and grow by it."""
        chosen = self._sampler.choose(logits, self.output_ids)
        if self.request.sampling.logprobs is not None:
            self.logprobs.append(self._sampler.logprob(logits, chosen))
        self.grow(chosen)
        return chosen

    def grow(self, token: int) -> None:
        """Take this token, and see whether it is the last."""
        self.output_ids.append(token)
        self.found_stop = self._watch.grows([token]) if self._watch else False
        whole = len(self.output_ids) == self.request.output_tokens
        self.ended = whole or self.found_stop or token in self.stops

    def answer(self) -> Ended:
        """What it has become."""
        return Ended(request=self.request, output_ids=self.output_ids, logprobs=self.logprobs)


def row_of(request: Request, eos: frozenset[int], open_tokenizer: OpenTokenizer) -> Row:
    """A request that begins."""
    return Row(request, stops_of(request, eos), watch_of(request, open_tokenizer))


def is_plain(sampling: Sampling) -> bool:
    """Whether the most likely token is all that is asked for, so that it can be chosen where the model runs."""
    return all(
        getattr(sampling, name) == getattr(_PLAIN, name)
        for name in (
            *("temperature", "min_tokens", "logprobs"),
            *("repetition_penalty", "presence_penalty", "frequency_penalty"),
        )
    )


def final_width(rows: Sequence[Row], width: int) -> int:
    """How wide a batch of this width becomes until its last row has ended."""
    return width + max((row.request.output_tokens - len(row.output_ids) for row in rows), default=0)
