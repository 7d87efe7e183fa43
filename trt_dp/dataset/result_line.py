"""What a line of results.jsonl and of failures.jsonl looks like."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from trt_dp.types import END_OF_LINE, Failure, Request, Result, Timing


class _Answer(Struct, omit_defaults=True):
    """A line of results.jsonl; its last two fields differ from run to run."""

    task_id: int | str
    output_ids: list[int]
    finish_reason: str
    input_tokens: int
    output_tokens: int
    text: str | None = None
    worker: int | None = None
    timing: Timing | None = None


class _Failed(Struct, omit_defaults=True):
    """A line of failures.jsonl."""

    task_id: int | str | None
    error: Failure


_encode = msgspec.json.Encoder().encode
_TIMING = b',"worker":'  # never inside a string, where a quote has a backslash before it


def answer(
    request: Request,
    result: Result,
    text: str | None = None,
    worker: int | None = None,
    timing: Timing | None = None,
) -> bytes:
    """The line of an answer; without `worker` and `timing` it depends on the request alone."""
    line = _Answer(
        task_id=request.task_id,
        output_ids=result.output_ids,
        finish_reason=result.finish_reason,
        input_tokens=len(request.input_ids),
        output_tokens=len(result.output_ids),
        text=text,
        worker=worker,
        timing=timing,
    )
    return _encode(line) + b"\n"


def timing_length(line: bytes) -> int:
    """How many bytes of an answer's line say which worker answered and how long it took: its last fields."""
    return len(line) - line.rindex(_TIMING) - len(END_OF_LINE)


def failure(task_id: int | str | None, error: Failure) -> bytes:
    """The line of a request that has no answer."""
    return _encode(_Failed(task_id, error)) + b"\n"
