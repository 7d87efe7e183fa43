"""prepare(): turns a workload into a dataset file; it checks first, and writes piece by piece."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct

from trt_dp.errors import DatasetError, UsageError
from trt_dp.synthetic.batch import Batch
from trt_dp.synthetic.encode import FORMATS, document, flat, lines
from trt_dp.synthetic.generate import (
    Sides,
    batches,
    check_lengths,
    clip,
    drawn,
    outside,
    resampled,
    trtllm_drawn,
)
from trt_dp.synthetic.prompts import STDIN, Prompt, read_prompts, shown
from trt_dp.synthetic.seen_lengths import read_lengths
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
    options,
)
from trt_dp.system.output import holds, refuse_special, write_file, write_stdout
from trt_dp.tokenizer import Tokenizer, open_tokenizer

_FOLDER = Path("datasets")
DEFAULT_OUTPUT = _FOLDER / "synthetic_2048_128.jsonl"
DEFAULT_SEED = 420
_MAX_COMPAT_SEED = 2**32 - 1
_TEXT_BATCH = 256

Progress = Callable[[int, int], None]


class Preparation(Struct, frozen=True):
    """Everything that was asked for; without `output` the dataset goes to stdout."""

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


class Prepared(Struct, frozen=True):
    """What was made; `already` if the file was there with exactly these bytes."""

    chosen: list[str]
    summary: Summary
    size: int
    already: bool


def default_output(workload: Workload, layout: str) -> Path:
    """The file of a workload without --output: its name says its kind and its lengths."""
    suffix = {"json": ".json", "openai": ".openai.jsonl"}.get(layout, ".jsonl")
    given = options(workload)
    if isinstance(workload, Normal) and not (workload.input_stdev or workload.output_stdev):
        return _FOLDER / f"synthetic_{workload.input_mean}_{workload.output_mean}{suffix}"
    if isinstance(workload, Empirical | Text):
        source = "stdin" if workload.path == STDIN else workload.path.stem
        return _FOLDER / f"{NAMES[type(workload)]}_{source}{suffix}"
    lengths = "_".join(str(value) for field, value in given.items() if field != "requests")
    return _FOLDER / f"{NAMES[type(workload)]}_{lengths}{suffix}"


class _Seen:
    """What passed on its way to the file: lengths, bytes, and how many lengths were clipped on each side."""

    def __init__(self) -> None:
        self.sides: list[Sides] = []
        self.size = 0
        self.clipped = (0, 0)

    def summary(self) -> Summary:
        """The summary of all requests."""
        inputs, outputs = (np.concatenate(side) for side in zip(*self.sides, strict=True))
        return summarise(inputs, outputs)


def prepare(asked: Preparation, progress: Progress) -> Prepared:
    """Make the dataset; the same preparation makes the same bytes. Another file is replaced only if asked."""
    _check(asked)
    tokenizer, vocabulary = _vocabulary(asked)
    seen = _Seen()
    pieces = _pieces(asked, tokenizer, vocabulary, seen, progress)
    already = _put(asked, pieces)
    summary = seen.summary()
    notes = [*_chosen(asked, vocabulary), *_warnings(asked, seen.clipped, summary)]
    return Prepared(chosen=notes, summary=summary, size=seen.size, already=already)


def _check(asked: Preparation) -> None:
    check(asked.workload, compat=asked.compat == "trtllm")
    if asked.prefixes:
        check_prefixes(asked.prefixes)
    if asked.layout not in FORMATS:
        _refuse(f"--format {asked.layout} is not known: there are {', '.join(FORMATS)}")
    if asked.tokenizer is not None and asked.vocab_size is not None:
        _refuse("--tokenizer and --vocab-size are both given: a tokenizer has its own size")
    if asked.special_ids and asked.vocab_size is None:
        _refuse("--special-ids goes with --vocab-size: a tokenizer has its own special ids")
    if asked.seed < 0:
        _refuse(f"--random-seed is {asked.seed}: it must be at least 0")
    if asked.compat is not None:
        _check_compat(asked)
    if isinstance(asked.workload, Text):
        _check_text(asked)
    if asked.output:
        refuse_special(asked.output)


def _check_compat(asked: Preparation) -> None:
    if asked.compat != "trtllm":
        _refuse(f"--compat {asked.compat} is not known: there is trtllm")
    if not isinstance(asked.workload, Normal | Uniform):
        _refuse(
            "--compat trtllm goes with token-norm-dist and token-unif-dist: theirs has no others"
        )
    if isinstance(asked.workload, Normal) and asked.seed > _MAX_COMPAT_SEED:
        _refuse(
            f"--random-seed is {asked.seed}: with --compat trtllm and token-norm-dist "
            f"it can be at most {_MAX_COMPAT_SEED}"
        )


def _check_text(asked: Preparation) -> None:
    if asked.layout == "json":
        _refuse("--format json goes with synthetic kinds only: text is written as jsonl or openai")
    if asked.prefixes:
        _refuse("--prefix-groups goes with synthetic kinds only: text has its own prefixes")
    if asked.vocab_size is not None:
        _refuse("text needs --tokenizer: a --vocab-size alone cannot turn text into ids")


def _vocabulary(asked: Preparation) -> tuple[Tokenizer, Vocabulary]:
    if asked.tokenizer is not None:
        found = open_tokenizer(asked.tokenizer, trust_remote_code=asked.trust_remote_code)
        return found, learned(found)
    if asked.vocab_size is not None:
        return DemoTokenizer(), sized(asked.vocab_size, asked.special_ids)
    return DemoTokenizer(), demo()


def _pieces(
    asked: Preparation,
    tokenizer: Tokenizer,
    vocabulary: Vocabulary,
    seen: _Seen,
    progress: Progress,
) -> Iterator[bytes]:
    """The bytes of the file, piece by piece."""
    metadata: dict[str, int | float | str] = {}
    if isinstance(asked.workload, Text):
        found, total = _text_batches(asked.workload, tokenizer), asked.workload.requests or 0
    else:
        sides = _lengths(asked.workload, asked, seen)
        found = batches(sides, vocabulary.usable, asked.seed, asked.prefixes)
        total = asked.workload.requests
        metadata = _metadata(asked.workload, vocabulary, sides)
    watched = _watch(found, seen, total, progress)
    if asked.layout == "json":
        encoded = document(watched, vocabulary.size, metadata)
    else:
        encoded = lines(watched, vocabulary.size, asked.layout, vocabulary.name)
    for piece in encoded:
        seen.size += len(piece)
        yield piece


def _lengths(workload: Synthetic, asked: Preparation, seen: _Seen) -> Sides:
    if isinstance(workload, Empirical):
        found = read_lengths(workload)
        return resampled(found, workload.requests, asked.seed, apart=workload.apart)
    if isinstance(workload, Normal | Uniform) and asked.compat:
        sides = trtllm_drawn(workload, asked.seed)
    else:
        sides = drawn(workload, asked.seed)
    seen.clipped = outside(workload, sides)
    return clip(workload, sides)


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
        msg = f"{shown(workload.path)} has no prompts"
        raise DatasetError(msg)
    if workload.requests and first < workload.requests:
        msg = f"{shown(workload.path)} has {first:,} prompts, and --num-requests asks for {workload.requests:,}"
        raise DatasetError(msg)


def _encoded(workload: Text, tokenizer: Tokenizer, first: int, group: list[Prompt]) -> Batch:
    texts = [prompt.text for prompt in group]
    prompts = tokenizer.encode(texts, special=workload.special_tokens)
    inputs = np.array([len(ids) for ids in prompts], np.int64)
    if not inputs.all():
        msg = f"{shown(workload.path)}: prompt {first + int(inputs.argmin()) + 1} has no tokens"
        raise DatasetError(msg)
    outputs = np.array([p.output_tokens or workload.output_tokens for p in group], np.int64)
    check_lengths(inputs, outputs)
    names = [
        msgspec.json.encode(number if prompt.name is None else prompt.name)
        for number, prompt in enumerate(group, first)
    ]
    return Batch(first=first, ids=flat(prompts), inputs=inputs, outputs=outputs, names=names)


def _metadata(
    workload: Synthetic, vocabulary: Vocabulary, sides: Sides
) -> dict[str, int | float | str]:
    """The metadata of NVIDIA's JSON document, under its keys and in its order."""
    given = options(workload)
    requests = workload.requests
    del given["requests"]
    found: dict[str, int | float | str] = {"workload_type": NAMES[type(workload)]}
    for field, value in given.items():
        found[field] = str(value) if isinstance(value, Path) else value
    found |= {"num_requests": requests, "tokenize_vocabsize": vocabulary.counted}
    found |= {"max_input_len": int(sides[0].max()), "max_output_len": int(sides[1].max())}
    found["workload_name"] = "__".join(f"{key}:{value}" for key, value in found.items())
    return found


def _put(asked: Preparation, pieces: Iterator[bytes]) -> bool:
    """Write, unless the file has these bytes already; refused where it has others."""
    if asked.output is None:
        write_stdout(pieces)
        return False
    path = asked.output.resolve()
    if asked.force or not path.exists():
        write_file(path, pieces)
        return False
    if not holds(path, pieces):
        _refuse(
            f"{asked.output} exists and is another dataset: pass --force to replace it, or another --output"
        )
    return True


def _warnings(asked: Preparation, clipped: tuple[int, int], summary: Summary) -> list[str]:
    """What a user might not expect of the dataset, one sentence each."""
    sides = (("input", clipped[0], summary.inputs), ("output", clipped[1], summary.outputs))
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
    if asked.layout == "openai":
        said.append("format: openai is for other servers; trt-dp run does not read it yet")
    return said


def _chosen(asked: Preparation, vocabulary: Vocabulary) -> list[str]:
    """What the user or a default chose, one sentence each."""
    said = [f"workload: {describe(asked.workload)}", f"vocabulary: {vocabulary.description}"]
    if asked.prefixes:
        shared, groups = asked.prefixes.tokens, asked.prefixes.groups
        said.append(
            f"prefixes: the first {shared:,} ids of a prompt are one of {groups:,} prefixes"
        )
    if asked.compat:
        said.append(
            f"seed: {asked.seed}, with the lengths of TensorRT-LLM's generator for the same arguments: input "
            "and output lengths come from the same random numbers; the ids are not TensorRT-LLM's"
        )
    elif not isinstance(asked.workload, Text):
        said.append(f"seed: {asked.seed}; the same seed and options make the same bytes anywhere")
    return said


def _refuse(msg: str) -> None:
    raise UsageError(msg)
