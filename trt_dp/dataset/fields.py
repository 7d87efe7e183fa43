"""What one input row says: every reader makes Fields, and the worker turns them into a Request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct, structs

from trt_dp.errors import UNREADABLE, BadLine
from trt_dp.system.reasons import why
from trt_dp.types import Form, Ids, Lora, PromptKind

MAX_COUNT = 2**31 - 1
_MOST_ANSWERS = 1024
_Count = Annotated[int, Meta(ge=1, le=MAX_COUNT)]
_Answers = Annotated[int, Meta(ge=1, le=_MOST_ANSWERS)]
_FromZero = Annotated[int, Meta(ge=0, le=MAX_COUNT)]
_Penalty = Annotated[float, Meta(ge=-2, le=2)]


class SamplingFields(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What a row itself says on sampling, under the names of trt_dp.types.Sampling; None: the run's setting."""

    temperature: Annotated[float, Meta(ge=0)] | None = None
    top_k: Annotated[int, Meta(ge=-1, le=MAX_COUNT)] | None = None  # 0 and -1: all
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    min_tokens: _FromZero | None = None
    stop: str | tuple[str, ...] | None = None
    stop_token_ids: tuple[_FromZero, ...] | None = None
    ignore_eos: bool | None = None
    repetition_penalty: Annotated[float, Meta(gt=0)] | None = None
    presence_penalty: _Penalty | None = None
    frequency_penalty: _Penalty | None = None
    logprobs: bool | int | None = None  # true, 0 and 1: those of the chosen tokens
    structured_outputs: Form | None = None
    lora_request: Lora | None = None


NOTHING = Raw()
NO_SAMPLING = SamplingFields()
"""The one value of each for a row that says nothing: `to_json` leaves out what is this very object."""


class Fields(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One row; it has exactly one of `input_ids`, `prompt` and `messages`. All but the ids can be written as JSON."""

    task_id: int | str | None = None
    input_ids: Ids | None = None
    prompt: str | None = None
    messages: Raw = NOTHING  # JSON, passed to the chat template as it is; empty: none
    exact_tokens: _Count | None = None  # `output_tokens` of a benchmark row: exactly so many
    max_tokens: _Count | None = None  # at most so many; without either, --max-tokens
    sampling: SamplingFields = NO_SAMPLING
    n: _Answers | None = None  # answers to give
    chat_template_kwargs: Raw = NOTHING  # a JSON object; empty: none
    more: dict[str, Raw] = {}  # every other field, as JSON; comes back with the answer as `fields`


class _Part(Struct):
    """A part of a message."""

    type: str = "text"


class _Message(Struct):
    """A message of a chat, as far as it is checked."""

    role: str
    content: str | list[_Part] | None = None


SAMPLING = SamplingFields.__struct_fields__
"""The names of all that a row can say on sampling."""

_NOTHING = (b"", b"null", b"[]", b"{}", b"false", b'""', b"0")
_NOTHING_OF = {
    "media_paths": (b"null", b"[]"),
}
_BLANKS = b" \t\r\n"
_NO = "is not supported: no engine here"
UNSUPPORTED = {
    "media_paths": f"{_NO} takes images, audio or video",
    "images": f"{_NO} takes images, audio or video",
    "audio": f"{_NO} takes images, audio or video",
    "multi_modal_data": f"{_NO} takes images, audio or video",
    "tools": f"{_NO} calls tools",
    "functions": f"{_NO} calls tools",
    "logit_bias": f"{_NO} shifts single tokens",
    "bad_words": f"{_NO} bans words",
    "allowed_token_ids": f"{_NO} limits the vocabulary",
    "use_beam_search": f"{_NO} searches with beams",
    "prompt_logprobs": f"{_NO} rates prompts",
    "top_logprobs": "is not supported: `logprobs` are those of the chosen tokens",
}

_decode = msgspec.json.Decoder(Fields).decode
_encode = msgspec.json.Encoder().encode


def to_json(fields: Fields) -> bytes:
    """All but the ids, as JSON."""
    return _encode(structs.replace(fields, input_ids=None))


def from_json(head: bytes, input_ids: Ids | None = None) -> Fields:
    """What `to_json` wrote, with these ids; raises BadLine for anything else."""
    try:
        fields = _decode(head)
    except UNREADABLE as error:
        raise BadLine(why(error)) from error
    return fields if input_ids is None else structs.replace(fields, input_ids=input_ids)


def kind_of(fields: Fields) -> PromptKind:
    """What the prompt is; raises BadLine unless there is exactly one, and something in it."""
    given = [
        kind
        for kind, there in (
            (PromptKind.IDS, fields.input_ids is not None),
            (PromptKind.TEXT, fields.prompt is not None),
            (PromptKind.CHAT, bool(fields.messages)),
        )
        if there
    ]
    if len(given) != 1:
        several = "more than one of" if given else "one of"
        tail = "is given" if given else "is needed"
        msg = f"{several} `input_ids`, `prompt` and `messages` {tail}"
        raise BadLine(msg)
    return given[0]


def check(fields: Fields) -> PromptKind:
    """What the prompt is; raises BadLine for a row that no engine could answer. Values are checked by `from_json`."""
    kind = kind_of(fields)
    if kind == PromptKind.TEXT and not fields.prompt:
        msg = "`prompt` is empty"
        raise BadLine(msg)
    if kind == PromptKind.CHAT:
        _check_messages(fields)
    _check_lengths(fields)
    if fields.sampling != NO_SAMPLING:
        _check_sampling(fields.sampling)
    if fields.more:
        refuse_unsupported(fields.more)
        _check_encoding(fields.more)
    return kind


def refuse_unsupported(more: Mapping[str, Raw]) -> None:
    """Raises BadLine for a field that asks for something that no engine does, unless it asks for nothing."""
    for name in more.keys() & UNSUPPORTED.keys():
        value = bytes(more[name]).translate(None, _BLANKS)
        if value not in _NOTHING_OF.get(name, _NOTHING):
            msg = f"`{name}` {UNSUPPORTED[name]}"
            raise BadLine(msg)


def _check_encoding(more: Mapping[str, Raw]) -> None:
    """Raises BadLine for bytes that are not UTF-8: they would come back in the results."""
    for name, raw in more.items():
        _check_text(name, raw)


def _check_text(name: str, raw: Raw) -> None:
    try:
        str(raw, "utf-8")
    except UnicodeDecodeError as error:
        msg = f"`{name}`: {error}"
        raise BadLine(msg) from error


def _check_messages(fields: Fields) -> None:
    try:  # in full, as a worker will: a decoder that skips a value does not look into it
        messages = msgspec.convert(msgspec.json.decode(fields.messages), list[_Message])
        msgspec.json.decode(fields.chat_template_kwargs or b"{}", type=dict)
    except UNREADABLE as error:
        msg = f"`messages` or `chat_template_kwargs`: {why(error)}"
        raise BadLine(msg) from error
    if not messages:
        msg = "`messages` is empty"
        raise BadLine(msg)
    for message in messages:
        for part in message.content if isinstance(message.content, list) else ():
            if part.type != "text":
                msg = f"`messages` has a part of type {part.type!r}: no engine here takes images, audio or video"
                raise BadLine(msg)


def _check_lengths(fields: Fields) -> None:
    if fields.exact_tokens is not None and fields.max_tokens is not None:
        msg = "`max_tokens` and an exact length are both given"
        raise BadLine(msg)
    most = fields.exact_tokens or fields.max_tokens
    least = fields.sampling.min_tokens or 0
    if most is not None and least > most:
        msg = f"`min_tokens` is {least}, and the answer may have {most} tokens"
        raise BadLine(msg)


def _check_sampling(sampling: SamplingFields) -> None:
    if "" in ((sampling.stop,) if isinstance(sampling.stop, str) else sampling.stop or ()):
        msg = "`stop` has an empty string"
        raise BadLine(msg)
    if sampling.logprobs not in (None, False, 0, 1):
        msg = f"`logprobs` is {sampling.logprobs}: only those of the chosen tokens are given (true or 1)"
        raise BadLine(msg)
