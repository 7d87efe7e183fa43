"""A request's body as what it asks for; whatever the server would have to ignore is refused by name."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from trt_dp.dataset import json_row
from trt_dp.dataset.fields import Fields
from trt_dp.dataset.row import nearest
from trt_dp.errors import UNREADABLE, BadLine, CallRefused
from trt_dp.system.reasons import why

_LABELS = frozenset(  # they say who asks or where it is billed, and change no answer
    {"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"}
)
_NOT_HERE = ("task_id", "input_ids", "logits", "input_len", "output_tokens", "output_len")
_MOST_PROMPTS = 1024
_NULL = b"null"


class _StreamOptions(Struct, forbid_unknown_fields=True):
    """What a stream also tells."""

    include_usage: bool = False
    continuous_usage_stats: bool = False


class _Own(Struct):
    """The fields that are no row's."""

    model: str | None = None
    stream: bool = False
    stream_options: _StreamOptions | None = None
    return_token_ids: bool = False
    max_completion_tokens: int | None = None


class _Fixed(Struct):
    """Fields that have one supported value each, which is what they mean when they are not given."""

    echo: bool = False
    best_of: int = 1
    suffix: str = ""
    detokenize: bool = True
    add_special_tokens: bool = True
    add_generation_prompt: bool = True
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True
    include_stop_str_in_output: bool = False
    parallel_tool_calls: bool = True
    tool_choice: str = "none"


_FIXED = _Fixed()


class Call(Struct, frozen=True, kw_only=True):
    """What one HTTP request asks for: an answer, or `n` of them, to each prompt."""

    chat: bool
    prompts: tuple[Fields, ...]
    stream: bool
    usage: bool  # at the end of a stream
    usage_always: bool  # in every event of it
    token_ids: bool


_table = msgspec.json.Decoder(dict[str, Raw]).decode
_own = msgspec.json.Decoder(_Own).decode
_encode = msgspec.json.Encoder().encode


def read(body: bytes, model: str, *, chat: bool) -> Call:
    """What this body asks for; raises CallRefused with the status and the field that is wrong."""
    try:
        str(body, "utf-8")  # a decoder that skips a value does not look into it
        given = {name: raw for name, raw in _table(body).items() if bytes(raw) != _NULL}
        own = _own(
            _encode({name: given.pop(name) for name in _Own.__struct_fields__ if name in given})
        )
    except UNREADABLE as error:
        raise CallRefused(400, f"the body is no call: {why(error)}") from error
    if own.model not in (None, model):
        raise CallRefused(
            404, f"the model {own.model!r} is not here; this server has {model!r}", "model"
        )
    _check(given, own)
    return Call(
        chat=chat,
        prompts=_prompts(given, own, chat=chat),
        stream=own.stream,
        usage=bool(own.stream_options and own.stream_options.include_usage),
        usage_always=bool(own.stream_options and own.stream_options.continuous_usage_stats),
        token_ids=own.return_token_ids,
    )


def _check(given: dict[str, Raw], own: _Own) -> None:
    """Refuse what is not a field here; take out what says nothing of the answer."""
    if own.stream_options and not own.stream:
        raise CallRefused(400, "`stream_options` is only for `stream`: true", "stream_options")
    if own.max_completion_tokens is not None and "max_tokens" in given:
        raise CallRefused(
            400, "both `max_tokens` and `max_completion_tokens` are given", "max_tokens"
        )
    for name in given.keys() & set(_NOT_HERE):
        raise CallRefused(400, f"`{name}` is not a field of this API", name)
    for name in given.keys() & set(_Fixed.__struct_fields__):
        _check_fixed(name, given.pop(name))
    for name in given.keys() & _LABELS:
        del given[name]


def _check_fixed(name: str, raw: Raw) -> None:
    only = getattr(_FIXED, name)
    if msgspec.json.decode(raw) != only:
        said = _encode(only).decode()
        raise CallRefused(400, f"`{name}` is {bytes(raw).decode()}: only {said} is supported", name)


def _prompts(given: dict[str, Raw], own: _Own, *, chat: bool) -> tuple[Fields, ...]:
    wanted, other = ("messages", "prompt") if chat else ("prompt", "messages")
    if other in given:
        raise CallRefused(400, f"`{other}` is not a field of this API: it takes `{wanted}`", other)
    if wanted not in given:
        raise CallRefused(400, f"`{wanted}` is missing", wanted)
    if own.max_completion_tokens is not None:
        given["max_tokens"] = Raw(_encode(own.max_completion_tokens))
    if chat:
        return (_fields(given),)
    prompt = given.pop("prompt")
    return tuple(_fields({**given, **each}) for each in _listed(prompt))


def _listed(prompt: Raw) -> list[dict[str, Raw]]:
    """The prompts: a text, its ids, or a list of either."""
    if not bytes(prompt).startswith(b"["):
        return [{"prompt": prompt}]
    try:
        items = msgspec.json.decode(prompt, type=list[Raw])
    except UNREADABLE as error:
        raise CallRefused(400, why(error, "prompt"), "prompt") from error
    if not items:
        raise CallRefused(400, "`prompt` is empty", "prompt")
    if bytes(items[0])[:1] not in (b'"', b"["):
        return [{"input_ids": prompt}]
    if len(items) > _MOST_PROMPTS:
        raise CallRefused(
            400, f"`prompt` holds {len(items):,} prompts: {_MOST_PROMPTS:,} at most", "prompt"
        )
    return [{"input_ids" if bytes(one).startswith(b"[") else "prompt": one} for one in items]


def _fields(table: dict[str, Raw]) -> Fields:
    try:
        fields = json_row.from_table(dict(table))
    except BadLine as error:
        raise CallRefused(400, str(error)) from error
    for name in sorted(fields.more):
        meant = f" (did you mean `{near}`?)" if (near := nearest(name)) else ""
        raise CallRefused(400, f"unknown field `{name}`{meant}: this server would ignore it", name)
    return fields
