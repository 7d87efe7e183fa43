"""Drawn requests as texts of exact length: prompts, and answers where a format holds them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
import numpy as np

from trt_dp.errors import UsageError
from trt_dp.synthetic.batch import Batch, Lengths
from trt_dp.synthetic.exact_text import ExactTexts
from trt_dp.synthetic.streams import ANSWERS, draw_ids
from trt_dp.synthetic.workload import MAX_INPUT

_PART = 256


def with_texts(
    found: Iterable[Batch], exact: ExactTexts, seed: int, *, answers: bool
) -> Iterator[Batch]:
    """The batches with texts and their lengths as counted; refused at the end if too many are not exact."""
    written = 0
    for batch in found:
        for part in _parts(batch):
            told = _with_prompts(part, exact)
            if answers:
                told = _with_answers(told, exact, seed, written)
                written += int(part.outputs.sum())
            yield told
    exact.check()


def _parts(batch: Batch) -> Iterator[Batch]:
    """The batch in parts of few requests, to save memory where answers are long."""
    ends = np.cumsum(batch.inputs)
    for first in range(0, len(batch.inputs), _PART):
        stop = min(first + _PART, len(batch.inputs))
        start = int(ends[first - 1]) if first else 0
        yield msgspec.structs.replace(
            batch,
            first=batch.first + first,
            ids=batch.ids[start : int(ends[stop - 1])],
            inputs=batch.inputs[first:stop],
            outputs=batch.outputs[first:stop],
        )


def _with_prompts(part: Batch, exact: ExactTexts) -> Batch:
    texts, counts = _texts(exact, part.prompts(), part.inputs, 2 * part.first)
    return msgspec.structs.replace(part, texts=texts, inputs=counts)


def _with_answers(part: Batch, exact: ExactTexts, seed: int, written: int) -> Batch:
    if int(part.outputs.max()) > MAX_INPUT:
        msg = f"an output of {int(part.outputs.max()):,} tokens was drawn: an answer can have at most {MAX_INPUT:,}"
        raise UsageError(msg)
    ids = draw_ids(exact.pool, seed, written, int(part.outputs.sum()), ANSWERS)
    drawn = Batch(first=part.first, ids=ids, inputs=part.outputs, outputs=part.outputs).prompts()
    texts, counts = _texts(exact, drawn, part.outputs, 2 * part.first + 1)
    return msgspec.structs.replace(part, answers=texts, outputs=counts)


def _texts(
    exact: ExactTexts, drawn: list[list[int]], lengths: Lengths, place: int
) -> tuple[list[str], Lengths]:
    """The texts and their lengths; prompts have even places, answers odd ones."""
    places = range(place, place + 2 * len(drawn), 2)
    made = exact.of(drawn, lengths.tolist(), places)
    return [text for text, _ in made], np.array([count for _, count in made], np.int64)
