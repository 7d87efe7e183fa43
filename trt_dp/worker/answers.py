"""Answers on their way to the coordinator: encoded as result lines, and gathered into one message."""

from __future__ import annotations

import time

import numpy as np
from msgspec import Struct, structs

from trt_dp.dataset.result_line import answer, failure, timing_length
from trt_dp.system.redact import scrub
from trt_dp.tokenizer import Tokenizer
from trt_dp.types import RECORD, Request, Result, Timing
from trt_dp.wire.messages import Done, Setup


class Line(Struct):
    """A result line, and the length of its part that differs from run to run."""

    content: bytes
    timing_length: int = 0


class LineWriter:
    """Encodes results as the run asks for them: with text or without, with timing or without."""

    def __init__(self, setup: Setup, tokenizer: Tokenizer | None) -> None:
        self._worker = setup.placement.worker
        self._options = setup.engine.options
        self._timing = setup.timing
        self._decode = tokenizer.decode if setup.detokenize and tokenizer else None

    def line(self, request: Request, result: Result, timing: Timing) -> Line:
        """The line of an answer or of a failure."""
        if result.error:
            message = scrub(result.error.message, self._options)
            return Line(failure(request.task_id, structs.replace(result.error, message=message)))
        text = self._decode(result.output_ids) if self._decode else None
        if not self._timing:
            return Line(answer(request, result, text))
        line = answer(request, result, text, self._worker, timing)
        return Line(line, timing_length(line))


class Answers:
    """The answers that are not sent yet; `since` is when the first of them came."""

    def __init__(self) -> None:
        self.since = 0.0
        self._lines: list[bytes] = []
        self._records: list[tuple[int, int, int, int, float, float, float, int, bool]] = []

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._lines)

    def add(self, request: Request, result: Result, timing: Timing, line: Line) -> None:
        """Add one; the record's values are in the order of RECORD."""
        self.since = self.since or time.monotonic()
        self._lines.append(line.content)
        self._records.append(
            (
                result.index,
                len(line.content),
                len(request.input_ids),
                len(result.output_ids),
                timing.queue_seconds,
                timing.first_token_seconds,
                timing.total_seconds,
                line.timing_length,
                result.error is not None,
            )
        )

    def done(self) -> Done:
        """All of them as a message."""
        return Done(np.array(self._records, RECORD).tobytes(), b"".join(self._lines))
