"""The JSON of answers, whole or in chunks, as far as it is read."""

from __future__ import annotations

from typing import Any

from msgspec import Struct


class _Said(Struct):
    """A chat's message, or a part of it."""

    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None  # its older name


class _Token(Struct):
    """A token of a chat's answer."""

    logprob: float


class _Logprobs(Struct):
    """Log-probabilities: of completions, or of chats."""

    token_logprobs: list[float | None] | None = None
    content: list[_Token] | None = None


class _Choice(Struct):
    """An answer, or a part of it."""

    text: str | None = None
    message: _Said | None = None
    delta: _Said | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    matched_stop: int | str | None = None  # SGLang's name for it
    logprobs: _Logprobs | None = None
    token_ids: list[int] | None = None

    @property
    def stopped_by(self) -> int | str | None:
        """The stop string or the id that ended the answer, where the server says it."""
        return self.matched_stop if self.stop_reason is None else self.stop_reason

    @property
    def words(self) -> str:
        """The text in it."""
        said = self.message or self.delta
        return self.text or (said.content if said else None) or ""

    @property
    def thoughts(self) -> str:
        """What the model thought before its answer, where a server keeps that apart."""
        said = self.message or self.delta
        return (said.reasoning or said.reasoning_content or "") if said else ""


class _Usage(Struct):
    """What the server counted."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Body(Struct):
    """An answer, or a chunk of a stream; the one with the usage has no choices."""

    id: Any = None
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


class Answer(Struct, frozen=True, kw_only=True):
    """An answer, put together; `first` is the chunk with its first token."""

    name: str = ""
    text: str
    reasoning: str
    ids: list[int]
    finish_reason: str | None
    stop_reason: int | str | None
    logprobs: list[float] | None
    usage: _Usage
    first: int


def join(chunks: list[Body]) -> Answer | None:
    """The answer in these chunks; None if there is no choice in any."""
    parts = [chunk.choices[0] for chunk in chunks if chunk.choices]
    if not parts:
        return None
    usages = [chunk.usage for chunk in chunks if chunk.usage]
    first = next((i for i, chunk in enumerate(chunks) if _has_token(chunk)), 0)
    return Answer(
        name=str(chunks[0].id),
        text="".join(part.words for part in parts),
        reasoning="".join(part.thoughts for part in parts),
        ids=[one for part in parts for one in part.token_ids or ()],
        finish_reason=next((part.finish_reason for part in parts if part.finish_reason), None),
        stop_reason=next((one.stopped_by for one in parts if one.stopped_by is not None), None),
        logprobs=_logprobs(parts),
        usage=usages[-1] if usages else _Usage(),
        first=first,
    )


def _has_token(chunk: Body) -> bool:
    """Whether a token came with it; a chat begins with a chunk that has none."""
    if not chunk.choices:
        return False
    first = chunk.choices[0]
    return bool(first.words or first.token_ids or first.thoughts)


def _logprobs(parts: list[_Choice]) -> list[float] | None:
    found: list[float] = []
    for part in parts:
        if part.logprobs:
            found += [one or 0.0 for one in part.logprobs.token_logprobs or ()]
            found += [one.logprob for one in part.logprobs.content or ()]
    return found or None
