"""Prompts of a file as requests, encoded some at a time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import msgspec
import numpy as np

from trt_dp.errors import DatasetError
from trt_dp.synthetic.batch import Batch
from trt_dp.synthetic.encode import flat
from trt_dp.synthetic.generate import check_lengths
from trt_dp.synthetic.prompts import Prompt, read_prompts, shown
from trt_dp.synthetic.workload import Text
from trt_dp.tokenizer import Tokenizer

_BATCH = 256


def text_batches(workload: Text, tokenizer: Tokenizer, *, special: bool) -> Iterator[Batch]:
    """The prompts in order, BOS and the like counted if `special`; refused where there are fewer than asked for."""
    read = itertools.islice(read_prompts(workload.path), workload.requests)
    first = 0
    while group := list(itertools.islice(read, _BATCH)):
        prompts = tokenizer.encode([prompt.text for prompt in group], special=special)
        yield _batch(workload, first, group, prompts)
        first += len(group)
    if not first:
        msg = f"{shown(workload.path)} has no prompts"
        raise DatasetError(msg)
    if workload.requests and first < workload.requests:
        msg = f"{shown(workload.path)} has {first:,} prompts, and --num-requests asks for {workload.requests:,}"
        raise DatasetError(msg)


def _batch(workload: Text, first: int, group: list[Prompt], prompts: list[list[int]]) -> Batch:
    inputs = np.array([len(ids) for ids in prompts], np.int64)
    if not inputs.all():
        msg = f"{shown(workload.path)}: prompt {first + int(inputs.argmin()) + 1} has no tokens"
        raise DatasetError(msg)
    outputs = np.array([p.output_tokens or workload.output_tokens for p in group], np.int64)
    check_lengths(inputs, outputs)
    return Batch(
        first=first,
        ids=flat(prompts),
        inputs=inputs,
        outputs=outputs,
        names=_names(first, group),
        texts=[prompt.text for prompt in group],
    )


def _names(first: int, group: list[Prompt]) -> list[bytes]:
    return [
        msgspec.json.encode(number if prompt.name is None else prompt.name)
        for number, prompt in enumerate(group, first)
    ]
