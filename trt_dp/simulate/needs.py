"""What the requests of a dataset will need, told from its index alone."""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from trt_dp.dataset.index import Index
from trt_dp.simulate.shapes import Lengths
from trt_dp.types import MOST_TOKENS, PromptKind

_LINE_BYTES, _TOKEN_BYTES = 220, 7
_TEXT_BYTES_PER_TOKEN = 4
_COPIES = 2  # the journal and the results
_BASE_BYTES = 105_000_000  # of the coordinator, which took 115 MB with 300,000 requests, 298 MB with 10 million
_INDEX_BYTES = 21


class Allowed(Struct, frozen=True):
    """How long answers may be where requests do not say it, and how long a prompt and its answer may be together."""

    max_tokens: int | None = None
    context: int | None = None


class Needs(Struct, frozen=True, kw_only=True):
    """What there is to do; `prompts` and `outputs` are tokens of each valid request, texts by their length."""

    prompts: Lengths
    outputs: Lengths
    places: Lengths
    invalid: int
    texts: int
    open_ended: int
    misfits: Lengths  # places in the dataset

    @property
    def disk_bytes(self) -> int:
        """At most so much is written."""
        return int(_COPIES * (len(self.outputs) * _LINE_BYTES + self.outputs.sum() * _TOKEN_BYTES))

    @property
    def memory_bytes(self) -> int:
        """What the coordinator takes, about."""
        return _BASE_BYTES + (len(self.outputs) + self.invalid) * _INDEX_BYTES


def needs_of(index: Index, allowed: Allowed) -> Needs:
    """The needs of all valid requests."""
    places = np.flatnonzero(index.lines["kind"] != PromptKind.INVALID)
    lines = index.lines.rows(places)
    texts = lines["kind"] != PromptKind.IDS
    about = lines["length"].astype(np.int64) // _TEXT_BYTES_PER_TOKEN
    prompts = np.where(texts, about, lines["input_tokens"].astype(np.int64))
    given = lines["output_tokens"].astype(np.int64)
    outputs = np.where(given > 0, given, _room(prompts, allowed))
    fits = _fits(prompts, outputs, allowed.context) | texts  # a text is not counted yet
    return Needs(
        prompts=prompts,
        outputs=outputs,
        places=places,
        invalid=len(index) - len(places),
        texts=int(texts.sum()),
        open_ended=int((given == 0).sum()),
        misfits=places[~fits],
    )


def _room(prompts: Lengths, allowed: Allowed) -> Lengths:
    if allowed.max_tokens:
        return np.full(len(prompts), allowed.max_tokens)
    if allowed.context is None:
        return np.full(len(prompts), MOST_TOKENS)
    return np.clip(allowed.context - prompts, 1, MOST_TOKENS)


def _fits(prompts: Lengths, outputs: Lengths, context: int | None) -> np.ndarray:
    if context is None:
        return np.ones(len(prompts), np.bool_)
    fits: np.ndarray = prompts + outputs <= context
    return fits
