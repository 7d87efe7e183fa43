"""The prompts of a measurement: drawn from a seed, with exactly the lengths that were drawn."""

from __future__ import annotations

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
        load.requests + load.warmup,
        load.input_mean,
        load.input_stdev,
        load.output_mean,
        load.output_stdev,
    )
    check(workload)
    seed = load.seed if ids_seed is None else ids_seed
    sides = lengths(workload, load.seed)
    drawn = batches(sides, wording.vocabulary.usable, seed)
    if wording.tokenizer is None:
        return [prompt for batch in drawn for prompt in _ids(batch)]
    exact = ExactTexts(wording.tokenizer, wording.vocabulary.usable, seed, special=wording.special)
    found = [prompt for batch in drawn for prompt in _texts(batch, exact)]
    _check_exact(exact, wording.tokenizer)
    return found


def due_times(load: Load) -> list[float]:
    """When each measured request of an open loop is due: Poisson arrivals, the first at 0; none for a closed loop."""
    if load.request_rate is None:
        return []
    asked = Arrivals(load.request_rate)
    sides = lengths(Normal(load.requests, 1, 0, 1, 0), load.seed)
    bare = (Batch(first=0, ids=sides[0].astype("i4"), inputs=sides[0], outputs=sides[1]),)
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
    places = range(batch.first, batch.first + len(batch.inputs))
    made = exact.of(batch.prompts(), batch.inputs.tolist(), places)
    return [
        Prompt(prompt=text, input_tokens=count, output_tokens=int(outputs))
        for (text, count), outputs in zip(made, batch.outputs, strict=True)
    ]


def _check_exact(exact: ExactTexts, tokenizer: Tokenizer) -> None:
    if exact.inexact > INEXACT_SHARE * exact.made:
        msg = (
            f"{exact.inexact:,} of {exact.made:,} prompts cannot have exactly the length asked for with the tokenizer "
            f"{tokenizer.name}. Ask for longer prompts, or leave --tokenizer out: then ids are sent"
        )
        raise UsageError(msg)
