"""Events of an OpenAI-compatible stream as a record: its tokens, when they came, and whether it has an end (pure)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from trt_dp.bench.record import Error
from trt_dp.errors import UNREADABLE
from trt_dp.system.safe_text import brief

_DONE = b"[DONE]"
_BROKEN_ENDS = ("error", "abort")
_LONGEST_REASON = 300


class _Delta(Struct, frozen=True):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class _Choice(Struct, frozen=True):
    text: str | None = None
    delta: _Delta | None = None
    token_ids: list[int] | None = None
    finish_reason: str | None = None


_Tokens = Annotated[int, Meta(ge=0)]


class _Usage(Struct, frozen=True):
    prompt_tokens: _Tokens | None = None
    completion_tokens: _Tokens | None = None


class _Event(Struct, frozen=True):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: object = None


class Answer(Struct, frozen=True, kw_only=True):
    """What a stream brought; `moments` are the times of the events that brought text or ids."""

    moments: list[float] = []
    text: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    finish_reason: str | None = None
    error: Error | None = None


Count = Callable[[str], int]
_decode = msgspec.json.Decoder(_Event).decode


def read_stream(events: Sequence[bytes], times: Sequence[float], count: Count | None) -> Answer:
    """A complete stream; `count` counts the tokens of a text where the server does not tell."""
    try:
        read = [
            (_decode(data), at) for data, at in zip(events, times, strict=True) if data != _DONE
        ]
    except UNREADABLE as error:
        return Answer(error=Error("protocol", f"an event is not a valid chunk: {error}"))
    refused = next((event.error for event, _ in read if event.error), None)
    if refused:
        words = server_words(msgspec.json.encode({"error": refused}))
        return Answer(error=Error("server", words))
    found = _answer(read)
    if found.finish_reason is None and _DONE not in events:
        return _failed(found, "the stream ended without finish_reason or [DONE]")
    return _counted(found, count)


def _answer(read: Sequence[tuple[_Event, float]]) -> Answer:
    moments, texts, reason, usage = [], [], None, None
    for event, at in read:
        usage = event.usage or usage
        for choice in (event.choices or ())[:1]:
            text = _text(choice)
            if text or choice.token_ids:
                moments.append(at)
                texts.append(text)
            reason = choice.finish_reason or reason
    return Answer(
        moments=moments,
        text="".join(texts),
        input_tokens=usage.prompt_tokens if usage else None,
        output_tokens=usage.completion_tokens if usage else None,
        finish_reason=reason,
    )


def _text(choice: _Choice) -> str:
    delta = choice.delta
    if delta is None:
        return choice.text or ""
    return (delta.reasoning_content or delta.reasoning or "") + (delta.content or "")


def _counted(found: Answer, count: Count | None) -> Answer:
    """The answer with its number of tokens; an error where it has none, or nobody can tell."""
    if found.finish_reason in _BROKEN_ENDS:
        return _failed(
            found, f"the server ended the answer with finish_reason {found.finish_reason}"
        )
    if not found.moments:
        why = "the answer has neither text nor ids"
        return _failed(
            found, f"{why}: if the server has no tokenizer, add --body return_token_ids=true"
        )
    if found.output_tokens:
        return found
    if count is None:
        return _failed(
            found, "the server sent no usage: give --tokenizer, so that tokens can be counted"
        )
    return msgspec.structs.replace(found, output_tokens=count(found.text))


def _failed(found: Answer, why: str) -> Answer:
    return msgspec.structs.replace(found, error=Error("incomplete", why))


class _Told(Struct, frozen=True):
    message: str | None = None
    error: _Told | str | None = None
    detail: str | None = None


def server_words(body: bytes) -> str:
    """The reason in an error's body, in the server's own words."""
    try:
        told = msgspec.json.decode(body, type=_Told)
    except UNREADABLE:
        return brief(body.decode(errors="replace"))[:_LONGEST_REASON] or "no reason given"
    inner = told.error
    said = inner.message if isinstance(inner, _Told) else inner
    said = said or told.message or told.detail or body.decode(errors="replace")
    return said[:_LONGEST_REASON]
