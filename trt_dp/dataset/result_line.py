"""What a line of results.jsonl and of failures.jsonl looks like."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from trt_dp.types import END_OF_LINE, Failure, Request, Result, Timing


class _Answer(Struct, omit_defaults=True):
    """A line of results.jsonl without its last two fields."""

    task_id: int | str
    output_ids: list[int]
    finish_reason: str
    input_tokens: int
    output_tokens: int
    text: str | None = None


class _Measured(Struct):
    """The last fields of a line of results.jsonl, which differ from run to run."""

    worker: int
    timing: Timing


class _Failed(Struct, omit_defaults=True):
    """A line of failures.jsonl."""

    task_id: int | str | None
    error: Failure


_encode = msgspec.json.Encoder().encode


def answer(request: Request, result: Result, text: str | None = None) -> bytes:
    """The line of an answer, which depends on the request alone."""
    line = _Answer(
        task_id=request.task_id,
        output_ids=result.output_ids,
        finish_reason=result.finish_reason,
        input_tokens=len(request.input_ids),
        output_tokens=len(result.output_ids),
        text=text,
    )
    return _encode(line) + b"\n"


def with_timing(line: bytes, worker: int, timing: Timing) -> bytes:
    """The line of an answer with two more fields at its end: which worker answered, and how long it took."""
    fields = _encode(_Measured(worker, timing))
    return b"%b,%b\n" % (line[: -len(END_OF_LINE)], fields[1:])


def failure(task_id: int | str | None, error: Failure) -> bytes:
    """The line of a request that has no answer."""
    return _encode(_Failed(task_id, error)) + b"\n"
