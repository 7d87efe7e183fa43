"""Requests as bytes, in the three formats; ids become text in bulk, by table.

The text of every id of the vocabulary stands in a table, padded to a word of 4 or 8 bytes. Taking words and
then deleting the padding encodes several times as many ids a second as a JSON encoder does from a list.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from trt_dp.synthetic.batch import Batch, Tokens

MAX_VOCABULARY = 10_000_000
FORMATS = ("jsonl", "json", "openai")
_COMMA, _NEWLINE = b",\n"
_PADDING = b"\0"
_LINES = {
    "jsonl": b'{"task_id":%d,"input_ids":[%b],"output_tokens":%d}\n',
    "openai": b'{"custom_id":"%%d","method":"POST","url":"/v1/completions",'
    b'"body":{"model":%b,"prompt":[%%b],"max_tokens":%%d}}\n',
}
_SAMPLE = b'{"input_len":%d,"input_ids":[%b],"output_len":%d,"task_id":-1}'


class IdTexts:
    """The text of every id below `size`, ready to be taken in bulk."""

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
        starts = np.cumsum(batch.inputs) - batch.inputs
        words.view(np.uint8)[starts * words.itemsize] = _NEWLINE
        return words.tobytes().translate(None, _PADDING)[1:].split(b"\n")


def lines(batches: Iterable[Batch], size: int, layout: str, model: str) -> Iterator[bytes]:
    """Batches as JSON lines, ours and TensorRT-LLM's, or as the lines of an OpenAI batch."""
    texts = IdTexts(size)
    line = _LINES[layout]
    if layout == "openai":
        line %= msgspec.json.encode(model).replace(b"%", b"%%")
    for batch in batches:
        rows = zip(texts.of(batch), batch.outputs.tolist(), strict=True)
        yield b"".join(
            [line % (i, ids, output) for i, (ids, output) in enumerate(rows, batch.first)]
        )


def document(
    batches: Iterable[Batch], size: int, metadata: dict[str, int | float | str]
) -> Iterator[bytes]:
    """Batches as NVIDIA's JSON document."""
    texts = IdTexts(size)
    head = b'{"metadata":%b,"samples":[' % msgspec.json.encode(metadata)
    for batch in batches:
        rows = zip(batch.inputs.tolist(), texts.of(batch), batch.outputs.tolist(), strict=True)
        yield head + b",".join([_SAMPLE % row for row in rows])
        head = b","
    yield b"]}\n"


def flat(prompts: list[list[int]]) -> Tokens:
    """Prompts end to end."""
    return np.array([token for prompt in prompts for token in prompt], np.int32)
