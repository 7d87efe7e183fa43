"""The prompts of a measurement: drawn from a seed, with exactly the lengths that were drawn."""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from trt_dp.bench.load import Load
from trt_dp.errors import UsageError
from trt_dp.synthetic.arrivals import Arrivals, with_arrivals
from trt_dp.synthetic.batch import Batch
from trt_dp.synthetic.exact_text import INEXACT_SHARE, ExactTexts
from trt_dp.synthetic.generate import batches, lengths
from trt_dp.synthetic.vocabulary import Vocabulary, learned
from trt_dp.synthetic.workload import Normal, check
from trt_dp.tokenizer import Tokenizer

_TURNS = 9


class Prompt(Struct, frozen=True, kw_only=True):
    """What is sent, how long it is, and how long its answer may be."""

    prompt: str | list[int]
    input_tokens: int
    output_tokens: int


class Wording(Struct, frozen=True, kw_only=True):
    """Text by a tokenizer, or else ids of a vocabulary; `special` counts the BOS that a server adds to text."""

    vocabulary: Vocabulary
    tokenizer: Tokenizer | None = None
    special: bool = True


def worded(tokenizer: Tokenizer, *, special: bool) -> Wording:
    """Text that this tokenizer reads as exactly as many tokens as were drawn."""
    return Wording(vocabulary=learned(tokenizer), tokenizer=tokenizer, special=special)


def draw_prompts(load: Load, wording: Wording, ids_seed: int | None = None) -> list[Prompt]:
    """The measured prompts in order, then those of the warm-up; another `ids_seed` changes all words and no length."""
    workload = Normal(
        requests=load.requests + load.warmup,
        input_mean=load.input_mean,
        input_stdev=load.input_stdev,
        output_mean=load.output_mean,
        output_stdev=load.output_stdev,
    )
    check(workload)
    seed = load.seed if ids_seed is None else ids_seed
    sides = lengths(workload, load.seed)
    drawn = batches(sides, wording.vocabulary.usable, seed)
    if wording.tokenizer is None:
        return [prompt for batch in drawn for prompt in _ids(batch)]
    exact = ExactTexts(wording.tokenizer, wording.vocabulary.usable, seed, special=wording.special)
    found = [prompt for batch in drawn for prompt in _texts(batch, exact)]
    _check_exact(found, sides[0].tolist(), wording.tokenizer)
    return found


def due_times(load: Load) -> list[float]:
    """When each measured request of an open loop is due: Poisson arrivals, the first at 0; none for a closed loop."""
    if load.request_rate is None:
        return []
    asked = Arrivals(load.request_rate)
    ones = np.ones(load.requests, np.int64)
    bare = (Batch(first=0, ids=ones.astype(np.int32), inputs=ones, outputs=ones),)
    return [
        float(at) / 1e6
        for batch in with_arrivals(bare, asked, load.seed)
        for at in batch.arrivals.tolist()  # type: ignore[union-attr]
    ]


def _ids(batch: Batch) -> list[Prompt]:
    return [
        Prompt(prompt=ids, input_tokens=len(ids), output_tokens=int(outputs))
        for ids, outputs in zip(batch.prompts(), batch.outputs, strict=True)
    ]


def _texts(batch: Batch, exact: ExactTexts) -> list[Prompt]:
    ids, wanted = batch.prompts(), batch.inputs.tolist()
    places = range(batch.first, batch.first + len(ids))
    made = exact.of(ids, wanted, places)
    made = [
        one if one[1] == length else _again(exact, prompt, length, place)
        for one, prompt, length, place in zip(made, ids, wanted, places, strict=True)
    ]
    return [
        Prompt(prompt=text, input_tokens=count, output_tokens=int(outputs))
        for (text, count), outputs in zip(made, batch.outputs, strict=True)
    ]


def _again(exact: ExactTexts, ids: list[int], length: int, place: int) -> tuple[str, int]:
    """The same ids in another order, in which they may not merge; the last try where none is exact."""
    for turn in range(1, _TURNS):
        [made] = exact.of([ids[turn:] + ids[:turn]], [length], range(place, place + 1))
        if made[1] == length:
            break
    return made


def _check_exact(found: list[Prompt], drawn: list[int], tokenizer: Tokenizer) -> None:
    pairs = zip(found, drawn, strict=True)
    inexact = sum(prompt.input_tokens != length for prompt, length in pairs)
    if inexact > INEXACT_SHARE * len(found):
        msg = (
            f"{inexact:,} of {len(found):,} prompts cannot have exactly the length asked for with the tokenizer "
            f"{tokenizer.name}. Ask for longer prompts, or leave --tokenizer out: then ids are sent"
        )
        raise UsageError(msg)
