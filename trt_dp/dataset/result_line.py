"""What a line of results.jsonl and of failures.jsonl looks like."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Raw, Struct

from trt_dp.types import END_OF_LINE, Failure, Result, Timing


class _Output(Struct, omit_defaults=True):
    """One of several answers to a request."""

    output_ids: list[int] | None = None
    finish_reason: str = ""
    output_tokens: int | None = None
    stop_reason: int | str | None = None
    text: str | None = None
    reasoning: str | None = None
    logprobs: list[float] | None = None


class _Answer(Struct, omit_defaults=True):
    """A line of results.jsonl; with `n`, its answers are in `outputs`. Its last two fields differ from run to run."""

    task_id: int | str
    output_ids: list[int] | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    input_tokens: int = -1
    output_tokens: int = -1
    text: str | None = None
    reasoning: str | None = None
    logprobs: list[float] | None = None
    outputs: list[_Output] | None = None
    fields: Mapping[str, Raw] | None = None
    worker: int | None = None
    timing: Timing | None = None


class _Failed(Struct, omit_defaults=True):
    """A line of failures.jsonl."""

    task_id: int | str | None
    error: Failure


class Measured(Struct, frozen=True):
    """Which worker answered, and how long it took."""

    worker: int
    timing: Timing


class Answer(Struct, frozen=True):
    """What is written of one answer: a result, and its text if that is wanted."""

    result: Result
    text: str | None = None


_encode = msgspec.json.Encoder().encode
_TIMING = b',"worker":'  # never inside a string, where a quote has a backslash before it


def answer(
    task_id: int | str,
    input_tokens: int,
    answers: list[Answer],
    more: Mapping[str, Raw] | None = None,
    measured: Measured | None = None,
) -> bytes:
    """The line of a request's answers; without `measured` it depends on the request alone."""
    (result, text), several = (answers[0].result, answers[0].text), len(answers) > 1
    counts = [output_tokens(one.result) for one in answers]
    line = _Answer(
        task_id=task_id,
        output_ids=None if several else _ids(result),
        finish_reason=None if several else result.finish_reason,
        stop_reason=None if several else result.stop_reason,
        input_tokens=input_tokens,
        output_tokens=-1 if None in counts else sum(one or 0 for one in counts),
        text=None if several else text,
        reasoning=None if several else result.reasoning,
        logprobs=None if several else result.logprobs,
        outputs=[_output(one) for one in answers] if several else None,
        fields=_on_one_line(more) if more else None,
        worker=measured.worker if measured else None,
        timing=measured.timing if measured else None,
    )
    return _encode(line) + b"\n"


def timing_length(line: bytes) -> int:
    """How many bytes of an answer's line say which worker answered and how long it took: its last fields."""
    return len(line) - line.rindex(_TIMING) - len(END_OF_LINE)


def _on_one_line(more: Mapping[str, Raw]) -> dict[str, Raw]:
    """Fields of a row, which may come from a document with line breaks."""
    return {
        name: Raw(msgspec.json.format(bytes(raw), indent=-1)) if b"\n" in bytes(raw) else raw
        for name, raw in more.items()
    }


def output_tokens(result: Result) -> int | None:
    """How many tokens an answer has: its ids, or what the engine counted; None if nobody knows."""
    if result.output_tokens is not None:
        return result.output_tokens
    return None if _ids(result) is None else len(result.output_ids)


def _ids(result: Result) -> list[int] | None:
    """The ids of an answer, None if it came as text alone."""
    return None if result.text is not None and not result.output_ids else result.output_ids


def _output(one: Answer) -> _Output:
    return _Output(
        output_ids=_ids(one.result),
        finish_reason=one.result.finish_reason,
        output_tokens=output_tokens(one.result),
        stop_reason=one.result.stop_reason,
        text=one.text,
        reasoning=one.result.reasoning,
        logprobs=one.result.logprobs,
    )


def failure(task_id: int | str | None, error: Failure) -> bytes:
    """The line of a request that has no answer."""
    return _encode(_Failed(task_id, error)) + b"\n"
