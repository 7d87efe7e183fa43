"""prepare(): turns a workload into a dataset file; it checks first, and writes piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from trt_dp.errors import UsageError
from trt_dp.synthetic.arrivals import with_arrivals
from trt_dp.synthetic.batch import Batch
from trt_dp.synthetic.encode import document, lines
from trt_dp.synthetic.encode_text import text_lines
from trt_dp.synthetic.exact_text import ExactTexts
from trt_dp.synthetic.generate import Sides, batches, clip, drawn, outside, resampled, trtllm_drawn
from trt_dp.synthetic.notes import Found, chosen, warnings
from trt_dp.synthetic.preparation import Preparation, Prepared, check
from trt_dp.synthetic.seen_lengths import read_lengths
from trt_dp.synthetic.summary import summarise
from trt_dp.synthetic.text_batches import with_texts
from trt_dp.synthetic.text_source import text_batches
from trt_dp.synthetic.vocabulary import DemoTokenizer, Vocabulary, demo, learned, sized
from trt_dp.synthetic.workload import NAMES, Empirical, Normal, Synthetic, Text, Uniform, options
from trt_dp.system.output import holds, write_file, write_stdout
from trt_dp.tokenizer import Tokenizer, open_tokenizer

Progress = Callable[[int, int], None]


class _Seen:
    """What passed on its way to the file: lengths, bytes, how many lengths were clipped, and the texts made."""

    def __init__(self) -> None:
        self.sides: list[Sides] = []
        self.size = 0
        self.clipped = (0, 0)
        self.exact: ExactTexts | None = None
        self.metadata: dict[str, int | float | str] = {}

    def found(self) -> Found:
        """All of it, once the last piece was written."""
        inputs, outputs = (np.concatenate(side) for side in zip(*self.sides, strict=True))
        return Found(
            inputs=inputs,
            outputs=outputs,
            clipped=self.clipped,
            summary=summarise(inputs, outputs),
            exact=self.exact,
        )


def prepare(asked: Preparation, progress: Progress) -> Prepared:
    """Make the dataset; the same preparation makes the same bytes. Another file is replaced only if asked."""
    check(asked)
    tokenizer, vocabulary = _vocabulary(asked)
    seen = _Seen()
    found = _requests(asked, tokenizer, vocabulary, seen)
    already = _put(asked, _pieces(asked, _watch(found, asked, seen, progress), vocabulary, seen))
    whole = seen.found()
    notes = [*chosen(asked, vocabulary), *warnings(asked, whole)]
    return Prepared(chosen=notes, summary=whole.summary, size=seen.size, already=already)


def _vocabulary(asked: Preparation) -> tuple[Tokenizer, Vocabulary]:
    if asked.tokenizer is not None:
        found = open_tokenizer(asked.tokenizer, trust_remote_code=asked.trust_remote_code)
        return found, learned(found)
    if asked.vocab_size is not None:
        return DemoTokenizer(), sized(asked.vocab_size, asked.special_ids)
    return DemoTokenizer(), demo()


def _requests(
    asked: Preparation, tokenizer: Tokenizer, vocabulary: Vocabulary, seen: _Seen
) -> Iterator[Batch]:
    """The requests with all that the format holds, some at a time."""
    if isinstance(asked.workload, Text):
        found = text_batches(
            asked.workload, tokenizer, special=_counts_special(asked, asked.workload)
        )
    else:
        found = _drawn(asked, asked.workload, tokenizer, vocabulary, seen)
    if asked.arrivals:
        found = with_arrivals(found, asked.arrivals, asked.seed)
    return found


def _counts_special(asked: Preparation, workload: Text) -> bool:
    """Whether BOS and the like count: as the format's reader does, or as asked for where ids are written."""
    return asked.format.counts_special if asked.format.text else workload.special_tokens


def _drawn(
    asked: Preparation,
    workload: Synthetic,
    tokenizer: Tokenizer,
    vocabulary: Vocabulary,
    seen: _Seen,
) -> Iterator[Batch]:
    sides = _lengths(workload, asked, seen)
    seen.metadata = _metadata(workload, vocabulary, sides)
    if not asked.format.text:
        return batches(sides, vocabulary.usable, asked.seed, asked.prefixes)
    exact = ExactTexts(
        tokenizer, vocabulary.usable, asked.seed, special=asked.format.counts_special
    )
    seen.exact = exact
    found = batches(sides, exact.pool, asked.seed, asked.prefixes)
    return with_texts(found, exact, asked.seed, answers=asked.format.answers)


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


def _watch(
    found: Iterable[Batch], asked: Preparation, seen: _Seen, progress: Progress
) -> Iterator[Batch]:
    total = asked.workload.requests or 0
    for batch in found:
        yield batch
        seen.sides.append((batch.inputs, batch.outputs))
        progress(batch.first + len(batch.inputs), total)


def _pieces(
    asked: Preparation, found: Iterator[Batch], vocabulary: Vocabulary, seen: _Seen
) -> Iterator[bytes]:
    """The bytes of the file, piece by piece."""
    if asked.format.text:
        encoded = text_lines(found, asked.layout, vocabulary.name)
    elif asked.layout == "json":
        encoded = document(found, vocabulary.size, seen.metadata)
    else:
        encoded = lines(found, vocabulary.size, asked.layout, vocabulary.name)
    for piece in encoded:
        seen.size += len(piece)
        yield piece


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
        msg = f"{asked.output} exists and is another dataset: pass --force to replace it, or another --output"
        raise UsageError(msg)
    return True
