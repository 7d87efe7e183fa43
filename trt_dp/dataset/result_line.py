"""What a line of results.jsonl and of failures.jsonl looks like."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Raw, Struct

from trt_dp.types import END_OF_LINE, Failure, Result, Timing


class Output(Struct, omit_defaults=True):
    """What is written of one answer."""

    output_ids: list[int]
    finish_reason: str
    stop_reason: int | str | None = None
    text: str | None = None
    logprobs: list[float] | None = None


class Answer(Struct, omit_defaults=True, kw_only=True):
    """A line of results.jsonl: one answer, or `outputs`. Its last two fields differ from run to run."""

    task_id: int | str
    output_ids: list[int] | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    input_tokens: int = -1
    output_tokens: int = -1
    text: str | None = None
    logprobs: list[float] | None = None
    outputs: list[Output] | None = None
    fields: Mapping[str, Raw] | None = None
    worker: int | None = None
    timing: Timing | None = None


class _Failed(Struct, omit_defaults=True):
    """A line of failures.jsonl."""

    task_id: int | str | None
    error: Failure


_encode = msgspec.json.Encoder().encode
_TIMING = b',"worker":'  # never inside a string, where a quote has a backslash before it


def line_of(answer: Answer) -> bytes:
    """The line of an answer; without `worker` and `timing` it depends on the request alone."""
    return _encode(answer) + b"\n"


def output_of(result: Result, text: str | None) -> Output:
    """A result and its text, as they are written."""
    return Output(
        result.output_ids, result.finish_reason, result.stop_reason, text, result.logprobs
    )


def on_one_line(more: Mapping[str, Raw]) -> dict[str, Raw]:
    """Fields of a row, which may come from a document with line breaks."""
    return {
        name: Raw(msgspec.json.format(bytes(raw), indent=-1)) if b"\n" in bytes(raw) else raw
        for name, raw in more.items()
    }


def timing_length(line: bytes) -> int:
    """How many bytes of an answer's line say which worker answered and how long it took: its last fields."""
    return len(line) - line.rindex(_TIMING) - len(END_OF_LINE)


def failure(task_id: int | str | None, error: Failure) -> bytes:
    """The line of a request that has no answer."""
    return _encode(_Failed(task_id, error)) + b"\n"
