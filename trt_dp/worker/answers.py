"""Answers on their way to the coordinator: encoded as result lines, and gathered into one message."""

from __future__ import annotations

import time

import numpy as np
from msgspec import Struct, structs

from trt_dp.dataset.result_line import (
    Answer,
    Output,
    failure,
    line_of,
    on_one_line,
    output_of,
    timing_length,
)
from trt_dp.system.redact import scrub
from trt_dp.tokenizer import Tokenizer
from trt_dp.types import RECORD, Timing
from trt_dp.wire.messages import Done, Setup
from trt_dp.worker.asked import Asked
from trt_dp.worker.ending import ended


class Line(Struct):
    """A result line, and the length of its part that differs from run to run."""

    content: bytes
    timing_length: int = 0
    output_tokens: int = 0


class LineWriter:
    """Encodes results as the run asks for them: with text or without, with timing or without."""

    def __init__(self, setup: Setup, tokenizer: Tokenizer | None) -> None:
        self._worker = setup.placement.worker
        self._options = setup.engine.options
        self._timing = setup.timing
        self._keep_special = setup.keep_special_tokens
        self._tokenizer = tokenizer

    def outputs(self, asked: list[Asked]) -> list[list[Output]]:
        """What is written of each row's results; their texts are decoded together."""
        found = [self._ended(one) for one in asked]
        wanted = [
            output
            for one, outputs in zip(asked, found, strict=True)
            if one.wants_text
            for output in outputs
            if output.text is None
        ]
        if wanted and self._tokenizer:
            ids = [output.output_ids for output in wanted]
            texts = self._tokenizer.decode_all(ids, keep_special=self._keep_special)
            for output, text in zip(wanted, texts, strict=True):
                output.text = text
        return found

    def line(self, asked: Asked, outputs: list[Output], timing: Timing) -> Line:
        """The line of a row's answers, or of its failure if any of them failed."""
        if error := asked.error:
            message = scrub(error.message, self._options)
            return Line(failure(asked.task_id, structs.replace(error, message=message)))
        answer = _answer(asked, outputs)
        if not self._timing:
            return Line(line_of(answer), 0, answer.output_tokens)
        answer.worker, answer.timing = self._worker, timing
        line = line_of(answer)
        return Line(line, timing_length(line), answer.output_tokens)

    def _ended(self, asked: Asked) -> list[Output]:
        return [
            output_of(*ended(request, result, self._tokenizer))
            for request, result in zip(asked.requests, asked.results, strict=True)
            if result
        ]


def _answer(asked: Asked, outputs: list[Output]) -> Answer:
    inputs, fields = len(asked.requests[0].input_ids), on_one_line(asked.more) or None
    if len(outputs) > 1:
        return Answer(
            task_id=asked.task_id,
            input_tokens=inputs,
            output_tokens=sum(len(one.output_ids) for one in outputs),
            outputs=outputs,
            fields=fields,
        )
    only = outputs[0]
    return Answer(
        task_id=asked.task_id,
        output_ids=only.output_ids,
        finish_reason=only.finish_reason,
        stop_reason=only.stop_reason,
        input_tokens=inputs,
        output_tokens=len(only.output_ids),
        text=only.text,
        logprobs=only.logprobs,
        fields=fields,
    )


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

    def add(self, asked: Asked, timing: Timing, line: Line) -> None:
        """Add one; the record's values are in the order of RECORD."""
        self.since = self.since or time.monotonic()
        self._lines.append(line.content)
        self._records.append(
            (
                asked.index,
                len(line.content),
                len(asked.requests[0].input_ids),
                line.output_tokens,
                timing.queue_seconds,
                timing.first_token_seconds,
                timing.total_seconds,
                line.timing_length,
                asked.error is not None,
            )
        )

    def done(self) -> Done:
        """All of them as a message."""
        return Done(np.array(self._records, RECORD).tobytes(), b"".join(self._lines))
