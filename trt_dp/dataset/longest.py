"""How long the requests of a dataset are, so that an engine can be built for them."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from trt_dp.dataset.index import open_dataset
from trt_dp.errors import DatasetError


class Longest(Struct, frozen=True):
    """The longest input, and the longest input with its output; `bad` lines have neither."""

    input_tokens: int
    total_tokens: int
    requests: int
    bad: int


def longest(path: Path) -> Longest:
    """The longest requests of a dataset; raises DatasetError where lengths are not known."""
    index = open_dataset(path, None, lambda _done, _total: None)
    if (first := index.first_text) is not None:
        place = f"{index.unit} {index.line_number(first)}"
        msg = f"{path}: the prompt of {place} is text, so its length is not known. Pass the lengths yourself"
        raise DatasetError(msg)
    good = index.lines[index.lines["output_tokens"] > 0]
    if not len(good):
        raise DatasetError(index.refusal("Fix the file"))
    inputs = good["input_tokens"].astype("i8")
    total = inputs + good["output_tokens"]
    return Longest(int(inputs.max()), int(total.max()), len(good), len(index) - len(good))
