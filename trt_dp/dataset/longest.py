"""How long the requests of a dataset are, so that an engine can be built that takes them all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from msgspec import Struct

from trt_dp.dataset.open import open_dataset
from trt_dp.errors import DatasetError
from trt_dp.types import PromptKind


class Longest(Struct, frozen=True):
    """The longest input, and the longest sum of input and output; `bad` counts the invalid lines."""

    input_tokens: int
    total_tokens: int
    requests: int
    bad: int


def longest(path: Path) -> Longest:
    """Read a dataset and write nothing; raises DatasetError if lengths are unknown."""
    index = open_dataset(path, None, lambda _done, _total: None)
    if (first := index.first_text) is not None:
        place = index.place(first)
        msg = f"{path}: the prompt of {place} is text, so its length in tokens is unknown: pass the lengths yourself"
        raise DatasetError(msg)
    good = np.flatnonzero(index.lines["kind"] != PromptKind.INVALID)
    if not len(good):
        raise DatasetError(index.refusal("Fix the file"))
    inputs = index.lines["input_tokens"][good].astype(np.int64)
    total = inputs + index.lines["output_tokens"][good]
    return Longest(
        input_tokens=int(inputs.max()),
        total_tokens=int(total.max()),
        requests=len(good),
        bad=len(index) - len(good),
    )
