"""What a writer is, and what it is given: requests with their answers, in input order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import BinaryIO, Protocol

import msgspec
from msgspec import Raw, Struct

from trt_dp.dataset.fields import Fields
from trt_dp.types import Failure


class Output(Struct, frozen=True, kw_only=True):
    """One of several answers to a request."""

    output_ids: list[int] = []
    finish_reason: str = "stop"
    output_tokens: int = 0
    stop_reason: int | str | None = None
    text: str | None = None
    reasoning: str | None = None
    logprobs: list[float] | None = None


class Line(Output, frozen=True, kw_only=True):
    """A line of results.jsonl or failures.jsonl, as it is read again."""

    task_id: int | str | None = None
    input_tokens: int = 0
    outputs: list[Raw] | None = None
    error: Failure | None = None

    @property
    def all_outputs(self) -> list[Output]:
        """The answers, however many there are."""
        return [self] if self.outputs is None else [_output(each) for each in self.outputs]


class Answered(Struct, frozen=True):
    """A request and its answer; an invalid request has only its id."""

    index: int
    fields: Fields
    line: Line


class Answers(Struct, frozen=True):
    """All requests of a run: `batches` begins anew each time it is called; `run` is the same for the same run."""

    batches: Callable[[], Iterator[list[Answered]]]
    run: str

    def __iter__(self) -> Iterator[Answered]:
        """One after the other."""
        return (row for batch in self.batches() for row in batch)


class Writer(Protocol):
    """A format. `name` is the file in a run folder, `errors` the one for failures, where they have their own."""

    name: str
    errors: str | None
    needs_text: bool

    def write(self, answers: Answers, out: BinaryIO, errors: BinaryIO | None) -> None:
        """Write all of it; the same answers give the same bytes."""


_output = msgspec.json.Decoder(Output).decode
line_of = msgspec.json.Decoder(Line).decode
"""A line of results.jsonl or failures.jsonl."""
