"""What a line of results.jsonl and of failures.jsonl looks like."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Raw, Struct

from trt_dp.types import END_OF_LINE, Failure, Result, Timing


class _Output(Struct, omit_defaults=True):
    """One of several answers to a request."""

    output_ids: list[int]
    finish_reason: str
    output_tokens: int
    stop_reason: int | str | None = None
    text: str | None = None
    logprobs: list[float] | None = None


class _Answer(Struct, omit_defaults=True):
    """A line of results.jsonl without its last two fields; with `n`, its answers are in `outputs`."""

    task_id: int | str
    output_ids: list[int] | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    input_tokens: int = -1
    output_tokens: int = -1
    text: str | None = None
    logprobs: list[float] | None = None
    outputs: list[_Output] | None = None
    fields: Mapping[str, Raw] | None = None


class _Measured(Struct):
    """The last fields of a line of results.jsonl, which differ from run to run."""

    worker: int
    timing: Timing


class _Failed(Struct, omit_defaults=True):
    """A line of failures.jsonl."""

    task_id: int | str | None
    error: Failure


class Answer(Struct, frozen=True):
    """What is written of one answer: a result, and its text if that is wanted."""

    result: Result
    text: str | None = None


_encode = msgspec.json.Encoder().encode


def answer(
    task_id: int | str,
    input_tokens: int,
    answers: list[Answer],
    more: Mapping[str, Raw] | None = None,
) -> bytes:
    """The line of a request's answers, which depends on the request alone."""
    (result, text), several = (answers[0].result, answers[0].text), len(answers) > 1
    line = _Answer(
        task_id=task_id,
        output_ids=None if several else result.output_ids,
        finish_reason=None if several else result.finish_reason,
        stop_reason=None if several else result.stop_reason,
        input_tokens=input_tokens,
        output_tokens=sum(len(one.result.output_ids) for one in answers),
        text=None if several else text,
        logprobs=None if several else result.logprobs,
        outputs=[_output(one) for one in answers] if several else None,
        fields=more or None,
    )
    return _encode(line) + b"\n"


def _output(one: Answer) -> _Output:
    return _Output(
        output_ids=one.result.output_ids,
        finish_reason=one.result.finish_reason,
        output_tokens=len(one.result.output_ids),
        stop_reason=one.result.stop_reason,
        text=one.text,
        logprobs=one.result.logprobs,
    )


def with_timing(line: bytes, worker: int, timing: Timing) -> bytes:
    """The line of an answer with two more fields at its end: which worker answered, and how long it took."""
    fields = _encode(_Measured(worker, timing))
    return b"%b,%b\n" % (line[: -len(END_OF_LINE)], fields[1:])


def failure(task_id: int | str | None, error: Failure) -> bytes:
    """The line of a request that has no answer."""
    return _encode(_Failed(task_id, error)) + b"\n"
