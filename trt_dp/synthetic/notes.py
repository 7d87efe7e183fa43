"""What is said of a dataset: what the user or a default chose, and what might surprise (pure)."""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from trt_dp.synthetic.arrivals import Arrivals
from trt_dp.synthetic.batch import Lengths
from trt_dp.synthetic.exact_text import ExactTexts
from trt_dp.synthetic.preparation import Preparation
from trt_dp.synthetic.summary import Summary
from trt_dp.synthetic.vocabulary import Vocabulary
from trt_dp.synthetic.workload import Text, describe

_SHAREGPT_LEAST, _SHAREGPT_PROMPT, _SHAREGPT_WHOLE = 4, 1024, 2048


class Found(Struct, frozen=True):
    """What passed on its way to the file: lengths, how many were clipped on each side, and the texts made."""

    inputs: Lengths
    outputs: Lengths
    clipped: tuple[int, int]
    summary: Summary
    exact: ExactTexts | None


def chosen(asked: Preparation, vocabulary: Vocabulary) -> list[str]:
    """What the user or a default chose, one sentence each."""
    said = [f"workload: {describe(asked.workload)}", f"vocabulary: {vocabulary.description}"]
    if asked.prefixes:
        shared, groups = asked.prefixes.tokens, asked.prefixes.groups
        said.append(
            f"prefixes: the first {shared:,} ids of a prompt are one of {groups:,} prefixes"
        )
    if asked.arrivals:
        said.append(_arrivals(asked.arrivals, asked.layout))
    if asked.compat:
        said.append(
            f"seed: {asked.seed}, with the lengths of TensorRT-LLM's generator for the same arguments: input "
            "and output lengths come from the same random numbers; the ids are not TensorRT-LLM's"
        )
    elif not isinstance(asked.workload, Text):
        same = "seed, options and tokenizer" if asked.format.text else "seed and options"
        said.append(f"seed: {asked.seed}; the same {same} make the same bytes anywhere")
    return said


def _arrivals(arrivals: Arrivals, layout: str) -> str:
    field = "`timestamp` in milliseconds" if layout == "aiperf" else "`arrival_seconds`"
    bursts = f" with burstiness {arrivals.burstiness:g}" if arrivals.kind == "gamma" else ""
    return f"arrivals: {arrivals.kind}{bursts}, {arrivals.rate:g} requests a second on average, as {field}"


def warnings(asked: Preparation, found: Found) -> list[str]:
    """What a user might not expect of the dataset, one sentence each."""
    said = [*_of_lengths(found), *_of_texts(found)]
    if asked.layout == "sharegpt":
        said += _skipped_by_vllm(found)
    if asked.layout == "vllm" and asked.output and asked.output.suffix != ".jsonl":
        said.append(f"name: vllm reads only files named *.jsonl, and not {asked.output.name}")
    if asked.format.note:
        said.append(f"format: {asked.format.note}")
    return said


def _of_lengths(found: Found) -> list[str]:
    sides = (
        ("input", found.clipped[0], found.summary.inputs),
        ("output", found.clipped[1], found.summary.outputs),
    )
    said = [
        f"clipped: {count:,} {name} lengths were outside the limits; the mean {name} is {side.mean:,.2f}"
        for name, count, side in sides
        if count
    ]
    if empty := [name for name, _, side in sides if side.shortest < 1]:
        said.append(
            f"invalid: there are {' and '.join(empty)} lengths of 0, as in TensorRT-LLM's dataset; "
            "trt-dp run refuses these requests (--skip-bad runs the others)"
        )
    return said


def _of_texts(found: Found) -> list[str]:
    exact = found.exact
    if exact is None:
        return []
    if not exact.inexact:
        return [
            f"texts: {exact.made:,}, drawn from {len(exact.pool):,} ids, each read back with exactly its length"
        ]
    msg = (
        f"texts: {exact.made:,} were read back, of which {exact.inexact:,} have another length than was asked for; "
        "the summary has the lengths as they are"
    )
    return [msg]


def _skipped_by_vllm(found: Found) -> list[str]:
    """VLLM and AIPerf skip short and long conversations of a ShareGPT file."""
    inputs, outputs = found.inputs, found.outputs
    short = (inputs < _SHAREGPT_LEAST) | (outputs < _SHAREGPT_LEAST)
    long = (inputs > _SHAREGPT_PROMPT) | (inputs + outputs > _SHAREGPT_WHOLE)
    skipped = int(np.count_nonzero(short | long))
    if not skipped:
        return []
    msg = (
        f"skipped: vllm skips {skipped:,} of these requests, because it takes from a ShareGPT file only prompts of "
        f"{_SHAREGPT_LEAST} to {_SHAREGPT_PROMPT:,} tokens, answers of at least {_SHAREGPT_LEAST}, and both together "
        f"up to {_SHAREGPT_WHOLE:,}"
    )
    return [msg]
