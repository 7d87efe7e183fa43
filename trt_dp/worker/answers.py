"""Answers on their way to the coordinator: encoded as result lines, and gathered into one message."""

from __future__ import annotations

import time

import numpy as np
from msgspec import Struct, structs

from trt_dp.dataset.result_line import (
    Answer,
    Measured,
    answer,
    failure,
    output_tokens,
    timing_length,
)
from trt_dp.system.redact import scrub
from trt_dp.tokenizer import Tokenizer
from trt_dp.types import RECORD, Request, Result, Timing
from trt_dp.wire.messages import Done, Setup
from trt_dp.worker.asked import Asked
from trt_dp.worker.ending import ended


class Line(Struct):
    """A result line, and the length of its part that differs from run to run."""

    content: bytes
    timing_length: int = 0
    output_tokens: int = 0
    failed: bool = False


class LineWriter:
    """Encodes results as the run asks for them: with text or without, with timing or without."""

    def __init__(self, setup: Setup, tokenizer: Tokenizer | None) -> None:
        self._worker = setup.placement.worker
        self._options = setup.engine.options
        self._timing = setup.timing
        self._keep_special = setup.keep_special_tokens
        self._tokenizer = tokenizer

    def answers(self, asked: list[Asked]) -> list[list[Answer]]:
        """What is written of each row's results; their texts are decoded together."""
        found = [
            [
                self._answer(one, request, result)
                for request, result in zip(one.requests, one.results, strict=True)
                if result
            ]
            for one in asked
        ]
        wanted = [
            answers if one.wants_text else [] for one, answers in zip(asked, found, strict=True)
        ]
        if self._tokenizer:
            self._add_texts(wanted, self._tokenizer)
        return found

    def _answer(self, asked: Asked, request: Request, result: Result) -> Answer:
        if result.text is None:
            return Answer(*ended(request, result, self._tokenizer))
        wanted = asked.wants_text or not result.output_ids
        return Answer(result, result.text if wanted else None)

    def line(self, asked: Asked, answers: list[Answer], timing: Timing) -> Line:
        """The line of a row's answers, or of its failure if any of them failed."""
        errors = [one.result.error for one in answers if one.result.error]
        if errors:
            message = scrub(errors[0].message, self._options)
            told = structs.replace(errors[0], message=message)
            return Line(failure(asked.task_id, told), failed=True)
        inputs = _input_tokens(asked)
        measured = Measured(self._worker, timing) if self._timing else None
        line = answer(
            asked.task_id, -1 if inputs is None else inputs, answers, asked.more, measured
        )
        tokens = sum(output_tokens(one.result) or 0 for one in answers)
        return Line(line, timing_length(line) if measured else 0, tokens)

    def _add_texts(self, wanted: list[list[Answer]], tokenizer: Tokenizer) -> None:
        places = [
            (answers, place)
            for answers in wanted
            for place, one in enumerate(answers)
            if one.text is None and one.result.text is None
        ]
        if places:
            ids = [answers[place].result.output_ids for answers, place in places]
            texts = tokenizer.decode_all(ids, keep_special=self._keep_special)
            for (answers, place), text in zip(places, texts, strict=True):
                answers[place] = Answer(answers[place].result, text)


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
                _input_tokens(asked) or 0,
                line.output_tokens,
                timing.queue_seconds,
                timing.first_token_seconds,
                timing.total_seconds,
                line.timing_length,
                line.failed,
            )
        )

    def done(self) -> Done:
        """All of them as a message."""
        return Done(np.array(self._records, RECORD).tobytes(), b"".join(self._lines))


def _input_tokens(asked: Asked) -> int | None:
    """How many tokens the prompt has; None if neither the worker nor the engine counted them."""
    if len(asked.requests[0].input_ids):
        return len(asked.requests[0].input_ids)
    counts = [one.input_tokens for one in asked.results if one and one.input_tokens is not None]
    return counts[0] if counts else None
