"""prepare(): from a workload to a dataset file; checks first, streams, and tells what it made."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from msgspec import Struct

from trt_dp.errors import DatasetError, UsageError
from trt_dp.synthetic.batch import Batch
from trt_dp.synthetic.encode import FORMATS, document, flat, lines
from trt_dp.synthetic.generate import (
    Sides,
    batches,
    check_lengths,
    lengths,
    resampled,
    trtllm_lengths,
)
from trt_dp.synthetic.prompts import Prompt, read_lengths, read_prompts
from trt_dp.synthetic.summary import Summary, summarise
from trt_dp.synthetic.vocabulary import DemoTokenizer, Vocabulary, demo, learned, sized
from trt_dp.synthetic.workload import (
    NAMES,
    Empirical,
    Normal,
    Prefixes,
    Synthetic,
    Text,
    Uniform,
    Workload,
    check,
    check_prefixes,
    describe,
)
from trt_dp.system.output import holds, refuse_special, write_file, write_stdout
from trt_dp.tokenizer import Tokenizer, open_tokenizer

DEFAULT_OUTPUT = Path("datasets/synthetic_2048_128.jsonl")
DEFAULT_SEED = 420
_MAX_COMPAT_SEED = 2**32 - 1
_TEXT_BATCH = 256

Progress = Callable[[int, int], None]


class Job(Struct, frozen=True):
    """All that was asked for; without `output` the dataset goes to stdout."""

    workload: Workload = Normal()
    output: Path | None = DEFAULT_OUTPUT
    seed: int = DEFAULT_SEED
    layout: str = "jsonl"
    tokenizer: str | None = None
    trust_remote_code: bool = False
    vocab_size: int | None = None
    special_ids: frozenset[int] = frozenset()
    prefixes: Prefixes | None = None
    compat: str | None = None
    force: bool = False


class Outcome(Struct, frozen=True):
    """What was made; `already` when the file was there and held exactly this."""

    chosen: list[str]
    summary: Summary
    size: int
    already: bool


class _Seen:
    """The lengths that went by, and the bytes."""

    def __init__(self) -> None:
        self.sides: list[Sides] = []
        self.size = 0

    def summary(self) -> Summary:
        """The summary of all that went by."""
        inputs, outputs = (np.concatenate(side) for side in zip(*self.sides, strict=True))
        return summarise(inputs, outputs)


def prepare(job: Job, progress: Progress) -> Outcome:
    """Make the dataset; the same job makes the same bytes, and a file that differs is not replaced unasked."""
    _check(job)
    tokenizer, vocabulary = _vocabulary(job)
    seen = _Seen()
    pieces = _pieces(job, tokenizer, vocabulary, seen, progress)
    already = _put(job, pieces)
    return Outcome(_chosen(job, vocabulary), seen.summary(), seen.size, already)


def _check(job: Job) -> None:
    check(job.workload)
    if job.prefixes:
        check_prefixes(job.prefixes)
    if job.layout not in FORMATS:
        _refuse(f"--format {job.layout} is not known: there are {', '.join(FORMATS)}")
    if job.tokenizer is not None and job.vocab_size is not None:
        _refuse("--tokenizer and --vocab-size are given: a tokenizer says its own size")
    if job.special_ids and job.vocab_size is None:
        _refuse("--special-ids goes with --vocab-size: a tokenizer names its own")
    if job.seed < 0:
        _refuse(f"--random-seed is {job.seed}: it must be at least 0")
    if job.compat is not None:
        _check_compat(job)
    if isinstance(job.workload, Text):
        _check_text(job)
    if job.output:
        refuse_special(job.output)


def _check_compat(job: Job) -> None:
    if job.compat != "trtllm":
        _refuse(f"--compat {job.compat} is not known: there is trtllm")
    if not isinstance(job.workload, Normal | Uniform):
        _refuse(
            "--compat trtllm goes with token-norm-dist and token-unif-dist: theirs has no other"
        )
    if job.seed > _MAX_COMPAT_SEED:
        _refuse(
            f"--random-seed {job.seed} with --compat trtllm: it can be at most {_MAX_COMPAT_SEED}"
        )


def _check_text(job: Job) -> None:
    if job.layout == "json":
        _refuse("--format json goes with synthetic kinds only: text is written as jsonl or openai")
    if job.prefixes:
        _refuse("--prefix-groups goes with synthetic kinds only: text brings its own prefixes")
    if job.vocab_size is not None:
        _refuse("text needs --tokenizer: a --vocab-size alone cannot turn text into ids")


def _vocabulary(job: Job) -> tuple[Tokenizer, Vocabulary]:
    if job.tokenizer is not None:
        found = open_tokenizer(job.tokenizer, trust_remote_code=job.trust_remote_code)
        return found, learned(found)
    if job.vocab_size is not None:
        return DemoTokenizer(), sized(job.vocab_size, set(job.special_ids))
    return DemoTokenizer(), demo()


def _pieces(
    job: Job, tokenizer: Tokenizer, vocabulary: Vocabulary, seen: _Seen, progress: Progress
) -> Iterator[bytes]:
    """The file, piece by piece."""
    metadata: dict[str, int | float | str] = {}
    if isinstance(job.workload, Text):
        found, total = _text_batches(job.workload, tokenizer), job.workload.requests or 0
    else:
        sides = _lengths(job.workload, job)
        found = batches(sides, vocabulary.usable, job.seed, job.prefixes)
        total = job.workload.requests
        metadata = _metadata(job.workload, vocabulary, sides)
    watched = _watch(found, seen, total, progress)
    if job.layout == "json":
        encoded = document(watched, vocabulary.size, metadata)
    else:
        encoded = lines(watched, vocabulary.size, job.layout, vocabulary.name)
    for piece in encoded:
        seen.size += len(piece)
        yield piece


def _lengths(workload: Synthetic, job: Job) -> Sides:
    if isinstance(workload, Empirical):
        seen = read_lengths(workload.path)
        return resampled(seen, workload.requests, job.seed, apart=workload.apart)
    if isinstance(workload, Normal | Uniform) and job.compat:
        return trtllm_lengths(workload, job.seed)
    return lengths(workload, job.seed)


def _watch(found: Iterable[Batch], seen: _Seen, total: int, progress: Progress) -> Iterator[Batch]:
    for batch in found:
        yield batch
        seen.sides.append((batch.inputs, batch.outputs))
        progress(batch.first + len(batch.inputs), total)


def _text_batches(workload: Text, tokenizer: Tokenizer) -> Iterator[Batch]:
    prompts, first = read_prompts(workload.path), 0
    prompts = itertools.islice(prompts, workload.requests)
    while group := list(itertools.islice(prompts, _TEXT_BATCH)):
        yield _encoded(workload, tokenizer, first, group)
        first += len(group)
    if not first:
        msg = f"{workload.path} holds no prompt"
        raise DatasetError(msg)
    if workload.requests and first < workload.requests:
        msg = f"{workload.path} holds {first:,} prompts: --num-requests asks for {workload.requests:,}"
        raise DatasetError(msg)


def _encoded(workload: Text, tokenizer: Tokenizer, first: int, group: list[Prompt]) -> Batch:
    prompts = tokenizer.encode([prompt.text for prompt in group])
    inputs = np.array([len(ids) for ids in prompts], np.int64)
    if not inputs.all():
        msg = f"{workload.path}: prompt {first + int(inputs.argmin()) + 1} has no token"
        raise DatasetError(msg)
    outputs = np.array([p.output_tokens or workload.output_tokens for p in group], np.int64)
    check_lengths(inputs, outputs)
    return Batch(first, flat(prompts), inputs, outputs)


def _metadata(
    workload: Synthetic, vocabulary: Vocabulary, sides: Sides
) -> dict[str, int | float | str]:
    """What NVIDIA's JSON document says of itself, under the same keys."""
    given = {field: getattr(workload, field) for field in workload.__struct_fields__}
    requests = given.pop("requests")
    found: dict[str, int | float | str] = {"workload_type": NAMES[type(workload)]}
    found |= {field: str(v) if isinstance(v, Path) else v for field, v in given.items()}
    found |= {"num_requests": requests, "tokenize_vocabsize": vocabulary.size}
    found |= {"max_input_len": int(sides[0].max()), "max_output_len": int(sides[1].max())}
    found["workload_name"] = "__".join(f"{key}:{value}" for key, value in found.items())
    return found


def _put(job: Job, pieces: Iterator[bytes]) -> bool:
    """Write, unless the file holds this already; raises when it holds something else."""
    if job.output is None:
        write_stdout(pieces)
        return False
    path = job.output.resolve()
    if job.force or not path.exists():
        write_file(path, pieces)
        return False
    if not holds(path, pieces):
        _refuse(
            f"{job.output} exists and is another dataset: replace it with --force, or choose another --output"
        )
    return True


def _chosen(job: Job, vocabulary: Vocabulary) -> list[str]:
    """What was chosen, by the user or by default, a sentence for each."""
    said = [f"workload: {describe(job.workload)}", f"vocabulary: {vocabulary.said}"]
    if job.prefixes:
        shared, groups = job.prefixes.tokens, job.prefixes.groups
        said.append(
            f"prefixes: the first {shared:,} ids of a prompt are one of {groups:,} prefixes"
        )
    if job.compat:
        said.append(
            f"seed: {job.seed}, with TensorRT-LLM's lengths: equal to its generator's for the same "
            "arguments, so input and output lengths come from the same random numbers; ids are our own"
        )
    elif not isinstance(job.workload, Text):
        said.append(f"seed: {job.seed}; the same seed and options make the same bytes anywhere")
    return said


def _refuse(msg: str) -> None:
    raise UsageError(msg)
