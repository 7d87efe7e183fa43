"""One row as JSON with the names that requests use, checked and turned into Fields."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType, structs

from trt_dp.dataset import token_ids
from trt_dp.dataset.fields import MAX_COUNT, Fields, SamplingFields
from trt_dp.errors import UNREADABLE, BadLine
from trt_dp.types import Ids

_Count = Annotated[int, Meta(ge=1, le=MAX_COUNT)]
_ABSENT = (b"", b"null")
_EMPTY = (*_ABSENT, b"[]", b"{}", b'""', b"false")
_BLANKS = b" \t\r\n"
REFUSED = {
    "lora_request": "no engine here applies LoRA adapters",
    "media_paths": "no engine here takes images, audio or video",
    "tools": "tools are not supported",
    "functions": "tools are not supported",
    "response_format": "answers cannot be forced into a form",
    "guided_json": "answers cannot be forced into a form",
    "logit_bias": "tokens cannot be given a bias",
    "best_of": "only `n` is supported",
    "suffix": "only what follows a prompt is generated",
    "echo": "the prompt is not repeated in the answer",
}
"""Fields that ask for something that cannot be done, unless they are empty."""


class Message(Struct):
    """One chat message, as far as it is checked here."""

    role: str
    content: str | list[_Part] | None = None


class _Part(Struct):
    """A part of a message's content."""

    type: str = "text"
    text: str | None = None


class _Known(SamplingFields, kw_only=True, omit_defaults=True, frozen=True):
    """Every field that a row may have, under all its names; null means absent."""

    task_id: int | str | None = None
    input_ids: Raw = Raw()
    logits: Raw = Raw()  # TensorRT-LLM's old name of input_ids
    prompt: str | None = None
    messages: Raw = Raw()
    output_tokens: _Count | None | UnsetType = UNSET
    output_len: _Count | None | UnsetType = UNSET  # the name in NVIDIA's JSON document
    input_len: _Count | None | UnsetType = UNSET
    max_tokens: _Count | None = None
    n: _Count | None = None
    chat_template_kwargs: Raw = Raw()


class _OnlyId(Struct):
    """The only field that is read from a row that is invalid otherwise."""

    task_id: int | str | None = None


KNOWN = frozenset(_Known.__struct_fields__)
_SAMPLING = SamplingFields.__struct_fields__
_strict = msgspec.json.Decoder(
    msgspec.defstruct("Row", [], bases=(_Known,), forbid_unknown_fields=True, frozen=True, kw_only=True)
).decode
_known = msgspec.json.Decoder(_Known).decode
_lax = msgspec.json.Decoder(_Known, strict=False).decode
_object = msgspec.json.Decoder(dict[str, Raw]).decode
_messages = msgspec.json.Decoder(list[Message]).decode
_only_id = msgspec.json.Decoder(_OnlyId).decode
_PLAIN = SamplingFields()


def from_json(row: bytes) -> Fields:
    """The Fields of a JSON object; raises BadLine with the reason."""
    start, stop = row.find(b"[") + 1, row.rfind(b"]")
    outline = _outline(row[:start] + row[stop:]) if 0 < start <= stop else None
    if outline is None:
        return _from_parts(*_decode(row))
    return _fields(outline, {}, token_ids.parse(row[start - 1 : stop + 1]))


def _outline(row: bytes) -> Any:
    """The row decoded without its ids, which is much faster; None where the brackets are not those of the ids."""
    try:
        known = _strict(row)
    except UNREADABLE:
        return None
    return known if bytes(known.input_ids or known.logits) == b"[]" else None


def _decode(row: bytes) -> tuple[_Known, dict[str, Raw]]:
    try:
        known, fields = _known(row), _object(row)
    except UNREADABLE as error:
        raise BadLine(str(error)) from error
    return known, {name: value for name, value in fields.items() if name not in KNOWN}


def from_table(cells: dict[str, Any], more: dict[str, Any], *, lax: bool = False) -> Fields:
    """The Fields of a table's row: its cells by their known names, and all others; `lax`: numbers are text."""
    try:
        encoded = msgspec.json.encode(cells)
        known = (_lax if lax else _known)(encoded)
        rest = {name: Raw(msgspec.json.encode(value, enc_hook=str)) for name, value in more.items()}
    except (*UNREADABLE, TypeError, OverflowError) as error:
        raise BadLine(str(error)) from error
    return _from_parts(known, rest)


def _from_parts(known: _Known, more: dict[str, Raw]) -> Fields:
    for name, why in REFUSED.items():
        if name in more and _bytes(more[name]) not in _EMPTY:
            msg = f"`{name}` is not supported: {why}"
            raise BadLine(msg)
    more = {name: value for name, value in more.items() if name not in REFUSED}
    given = [raw for raw in (known.input_ids, known.logits) if bytes(raw) not in _ABSENT]
    if len(given) > 1:
        msg = "both `input_ids` and `logits` are given"
        raise BadLine(msg)
    return _fields(known, more, token_ids.parse(bytes(given[0])) if given else None)


def _fields(known: _Known, more: dict[str, Raw], ids: Ids | None) -> Fields:
    if known.chat_template_kwargs or known.messages or known.prompt is not None or ids is None:
        _check_prompt(known, ids)
    exact = _exact(known)
    if known.input_len not in (UNSET, None, len(ids) if ids is not None else None):
        msg = f"`input_len` is {known.input_len}, but there are {0 if ids is None else len(ids)} ids"
        raise BadLine(msg)
    return Fields(
        task_id=known.task_id,
        input_ids=ids,
        prompt=known.prompt,
        messages=_present(known.messages),
        exact_tokens=exact,
        max_tokens=known.max_tokens,
        sampling=_sampling(known),
        n=known.n,
        chat_template_kwargs=_present(known.chat_template_kwargs),
        more=more,
    )


def _check_prompt(known: _Known, ids: Ids | None) -> None:
    """Raises BadLine unless there is exactly one prompt, and it is not empty."""
    named = {"prompt": known.prompt is not None, "messages": bool(_present(known.messages))}
    given = [name for name, there in {"input_ids": ids is not None, **named}.items() if there]
    if not given:
        msg = "`input_ids` is missing, and so are `prompt` and `messages`: give one of them"
        raise BadLine(msg)
    if len(given) > 1:
        msg = f"{' and '.join(f'`{name}`' for name in given)} are given: give one of them"
        raise BadLine(msg)
    if known.prompt == "":
        msg = "`prompt` is empty"
        raise BadLine(msg)
    if given == ["messages"]:
        check_messages(bytes(known.messages))
    if bytes(known.chat_template_kwargs)[:1] not in (b"", b"{", b"n"):
        msg = "`chat_template_kwargs` is not a JSON object"
        raise BadLine(msg)


def check_messages(text: bytes) -> None:
    """Raises BadLine unless this is a list of chat messages that are text alone."""
    try:
        messages = _messages(text)
    except UNREADABLE as error:
        msg = f"`messages`: {error}"
        raise BadLine(msg) from error
    if not messages:
        msg = "`messages` is empty"
        raise BadLine(msg)
    parts = [part for one in messages if isinstance(one.content, list) for part in one.content]
    if kinds := sorted({part.type for part in parts if part.type != "text"}):
        msg = f"`messages` holds {', '.join(kinds)}: no engine here takes images, audio or video"
        raise BadLine(msg)


def _exact(known: _Known) -> int | None:
    given = [count for count in (known.output_tokens, known.output_len) if count not in (UNSET, None)]
    if len(given) > 1:
        msg = "both `output_tokens` and `output_len` are given"
        raise BadLine(msg)
    return given[0] if given else None  # type: ignore[return-value]


def _sampling(known: _Known) -> SamplingFields:
    values = {name: getattr(known, name) for name in _SAMPLING}
    given = {name: value for name, value in values.items() if value is not None}
    return SamplingFields(**given) if given else _PLAIN


def _present(raw: Raw) -> Raw:
    return Raw() if bytes(raw) in _ABSENT else raw.copy()


def _bytes(raw: Raw) -> bytes:
    return bytes(raw).translate(None, _BLANKS)


def task_id(row: bytes) -> int | str | None:
    """The task_id of a row, valid or not: None when it cannot be read."""
    try:
        return _only_id(row).task_id
    except UNREADABLE:
        return None


def renamed(fields: Fields, name: int | str | None) -> Fields:
    """The same request under another id."""
    return structs.replace(fields, task_id=name)
