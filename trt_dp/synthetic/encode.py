"""Requests as bytes, in the formats that hold ids; a table turns ids into text in bulk.

The table holds the text of every id, padded to a word of 4 or 8 bytes. Taking words and then deleting the
padding encodes several times as many ids per second as a JSON encoder.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from trt_dp.synthetic.batch import Batch, Tokens

MAX_VOCABULARY = 10_000_000
_COMMA, _NEWLINE = b",\n"
_PADDING = b"\0"
_LINES = {
    "jsonl": b'{"task_id":%b,"input_ids":[%b],"output_tokens":%d%b}\n',
    "openai": b'{"custom_id":%%b,"method":"POST","url":"/v1/completions",'
    b'"body":{"model":%b,"prompt":[%%b],"max_tokens":%%d}%%b}\n',
}
_SAMPLE = b'{"input_len":%d,"input_ids":[%b],"output_len":%d,"task_id":-1%b}'


class IdTexts:
    """The text of every id below `size`."""

    def __init__(self, size: int) -> None:
        digits = len(str(size - 1))
        width = 4 if digits < 4 else 8
        table = np.zeros((size, width), np.uint8)
        table[:, 0] = _COMMA
        numbers = np.arange(size).astype(f"S{digits}")
        table[:, 1 : digits + 1] = numbers.view(np.uint8).reshape(size, digits)
        self._words: NDArray[Any] = table.view(np.uint32 if width == 4 else np.uint64).ravel()

    def of(self, batch: Batch) -> list[bytes]:
        """The ids of each request of a batch, with commas between them."""
        words = self._words.take(batch.ids)
        filled = batch.inputs > 0
        starts = (np.cumsum(batch.inputs) - batch.inputs)[filled]
        words.view(np.uint8)[starts * words.itemsize] = _NEWLINE
        texts = words.tobytes().translate(None, _PADDING)[1:].split(b"\n")
        if filled.all():
            return texts
        given = iter(texts)
        return [next(given) if some else b"" for some in filled.tolist()]


def lines(batches: Iterable[Batch], size: int, layout: str, model: str) -> Iterator[bytes]:
    """Batches as JSON lines, or as the lines of an OpenAI batch."""
    texts = IdTexts(size)
    line = _LINES[layout]
    if layout == "openai":
        line %= msgspec.json.encode(model).replace(b"%", b"%%")
    for batch in batches:
        named = names(batch, strings=layout == "openai")
        columns = named, texts.of(batch), batch.outputs.tolist(), _arrivals(batch)
        rows = zip(*columns, strict=True)
        yield b"".join([line % row for row in rows])


def names(batch: Batch, *, strings: bool) -> list[bytes]:
    """The name of each request: its own, or its place in the file; OpenAI's are always strings."""
    numbers = range(batch.first, batch.first + len(batch.inputs))
    named = batch.names or [b"%d" % number for number in numbers]
    if not strings:
        return named
    return [name if name.startswith(b'"') else b'"%b"' % name for name in named]


def seconds(microseconds: int) -> bytes:
    """Seconds as JSON, to the microsecond."""
    return b"%d.%06d" % divmod(microseconds, 1_000_000)


def _arrivals(batch: Batch) -> list[bytes]:
    """The field with the arrival time of each request, or nothing."""
    if batch.arrivals is None:
        return [b""] * len(batch.inputs)
    return [b',"arrival_seconds":' + seconds(time) for time in batch.arrivals.tolist()]


def document(
    batches: Iterable[Batch], size: int, metadata: dict[str, int | float | str]
) -> Iterator[bytes]:
    """Batches as NVIDIA's JSON document."""
    texts = IdTexts(size)
    head = b'{"metadata":%b,"samples":[' % msgspec.json.encode(metadata)
    for batch in batches:
        columns = batch.inputs.tolist(), texts.of(batch), batch.outputs.tolist(), _arrivals(batch)
        rows = zip(*columns, strict=True)
        yield head + b",".join([_SAMPLE % row for row in rows])
        head = b","
    yield b"]}\n"


def flat(prompts: list[list[int]]) -> Tokens:
    """Prompts end to end."""
    return np.array([token for prompt in prompts for token in prompt], np.int32)
