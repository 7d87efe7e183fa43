"""An answer as vLLM makes it: whole at its end, or token by token where a stop string may end it.

While an answer grows, vLLM holds what it has of it; a server that streams looks there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trt_dp.text.stop_strings import Watch
from trt_dp.tokenizer import Tokenizer
from trt_dp.types import Sampling


class Growing:
    """The ids so far, with the one that stopped it, and vLLM's reason once there is one."""

    def __init__(self, sampling: Sampling, tokenizer: Tokenizer | None) -> None:
        self.ids: list[int] = []
        self.logprobs: list[float] | None = None if sampling.logprobs is None else []
        self.reason: str | None = None
        self._told = 0
        self._watch = None
        if sampling.stop and tokenizer:
            self._watch = Watch(tokenizer, sampling.stop, sampling.min_tokens)

    @property
    def watched(self) -> bool:
        """Whether each token is wanted as soon as it is there."""
        return self._watch is not None

    def take(self, output: Any) -> bool:
        """Whether the answer is complete with this output: vLLM ended it, or a stop string is in it."""
        found = output.outputs[0]
        self.ids += found.token_ids
        if self.logprobs is not None and found.logprobs:
            self.logprobs += _chosen(found.token_ids, found.logprobs)
        self.reason = found.finish_reason
        if output.finished:
            return True
        if self._watch and self._watch.grows(found.token_ids):
            self.reason = "stop"
            return True
        return False

    def tell(self, state: Any, stops: frozenset[int]) -> tuple[list[int], list[float] | None]:
        """The ids since the last time, with their numbers; the one that stops the answer is not part of it."""
        ids = self.ids if self.watched else list(state.detokenizer.output_token_ids)
        upto = len(ids) - bool(ids and ids[-1] in stops)
        begin, self._told = self._told, max(upto, self._told)
        if self.logprobs is None or begin >= upto:
            return ids[begin:upto], None
        if self.watched:
            return ids[begin:upto], self.logprobs[begin:upto]
        return ids[begin:upto], _chosen(
            ids[begin:upto], state.logprobs_processor.logprobs[begin:upto]
        )


def _chosen(ids: Sequence[int], tables: Sequence[Any]) -> list[float]:
    """The number of each chosen token; vLLM gives a table by id for each place."""
    places = zip(ids, tables, strict=True)
    return [round(float(table[token].logprob), 5) for token, table in places]
