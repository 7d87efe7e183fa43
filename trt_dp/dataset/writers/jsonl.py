"""JSON lines of requests with their answers, failures among them: one line for each request."""

from __future__ import annotations

from typing import Any, BinaryIO

import msgspec
import numpy as np

from trt_dp.dataset.writers.columns import row_of
from trt_dp.dataset.writers.contract import Answers


class JsonLines:
    """What was asked and what was answered, as one object a line."""

    name = "answers.jsonl"
    errors = None
    needs_text = False

    def write(self, answers: Answers, out: BinaryIO, errors: BinaryIO | None) -> None:
        """Write all requests."""
        del errors
        encode = msgspec.json.Encoder(enc_hook=listed).encode
        for batch in answers.batches():
            out.writelines(encode(row_of(answered)) + b"\n" for answered in batch)


def listed(value: Any) -> Any:
    """An array of ids as a list, for encoders."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise NotImplementedError
