"""A Request as the JSON that one server accepts. Pure: nothing is sent here."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Raw, Struct

from trt_dp.engines.openai.dialect import Dialect
from trt_dp.engines.openai.forms import form_fields
from trt_dp.errors import RequestRefused
from trt_dp.types import Request, Sampling

Api = Literal["completions", "chat"]
PATHS: dict[Api, str] = {"completions": "/completions", "chat": "/chat/completions"}

_encode = msgspec.json.Encoder().encode
_PLAIN = Sampling()
_SIGN = 2**63
_CANARY_TOKENS = 4  # some models cannot end an answer of one
_MORE = ("top_k", "min_p", "repetition_penalty", "min_tokens", "ignore_eos", "stop_token_ids")


class Manner(Struct, frozen=True, kw_only=True):
    """How a server is asked."""

    model: str
    dialect: Dialect
    api: Literal["auto", "completions", "chat"] = "auto"
    stream: bool = False


def api_of(request: Request, manner: Manner) -> Api:
    """Which of the two APIs a request goes to; raises RequestRefused where it cannot go there."""
    wanted: Api = "chat" if request.messages else "completions"
    if manner.api == "completions" and wanted == "chat":
        msg = "chats cannot be sent to /completions, as --set api=completions asks"
        raise RequestRefused(msg)
    if manner.api == "chat" and len(request.input_ids):
        msg = "token ids cannot be sent to /chat/completions, as --set api=chat asks"
        raise RequestRefused(msg)
    return wanted if manner.api == "auto" else manner.api


def body_of(request: Request, api: Api, manner: Manner) -> bytes:
    """The body for a request; raises RequestRefused for what the server does not accept."""
    dialect = manner.dialect
    asked: dict[str, Any] = {"model": manner.model, **_prompt(request, api, dialect)}
    asked[dialect.chat_limit if api == "chat" else "max_tokens"] = request.output_tokens
    asked |= _sampling(request.sampling, dialect)
    if request.sampling.structured_outputs is not None:
        asked |= form_fields(request.sampling.structured_outputs, dialect)
    if request.sampling.logprobs is not None:
        asked["logprobs"] = True if api == "chat" else 1
    if manner.stream:
        asked |= {"stream": True, "stream_options": {"include_usage": True}}
    if dialect.returns_ids and len(request.input_ids):
        asked["return_token_ids"] = True
    return _encode(asked)


def canary(api: Api, manner: Manner, *, ids: bool = False) -> bytes:
    """The body of the smallest request: who answers it can answer. `ids`: for a server without a tokenizer."""
    said: dict[str, Any] = {"prompt": [1] if ids else "Hello"}
    if api == "chat":
        said = {"messages": [{"role": "user", "content": "Hello"}]}
    limit = manner.dialect.chat_limit if api == "chat" else "max_tokens"
    return _encode({"model": manner.model, **said, limit: _CANARY_TOKENS})


def _prompt(request: Request, api: Api, dialect: Dialect) -> dict[str, Any]:
    if request.messages:
        chat: dict[str, Any] = {"messages": Raw(request.messages)}
        if request.chat_template_kwargs:
            _check(dialect, "chat_template_kwargs")
            chat["chat_template_kwargs"] = Raw(request.chat_template_kwargs)
        return chat
    if request.prompt is not None:
        if api == "chat":
            return {"messages": [{"role": "user", "content": request.prompt}]}
        return {"prompt": request.prompt}
    if not dialect.ids:
        msg = f"a server of the kind {dialect.name} takes no token ids: give prompts as text"
        raise RequestRefused(msg)
    return {"prompt": request.input_ids.tolist()}


def _sampling(wished: Sampling, dialect: Dialect) -> dict[str, Any]:
    """Everything that decides an answer, said aloud: servers have defaults of their own."""
    said: dict[str, Any] = {
        name: getattr(wished, name)
        for name in ("temperature", "top_p")
        if getattr(wished, name) != 1 or dialect.neutral
    }
    if wished.temperature:
        said["seed"] = _seed(wished.seed, dialect.seeds)
    for name in ("presence_penalty", "frequency_penalty"):
        if getattr(wished, name):
            said[name] = getattr(wished, name)
    if wished.stop:
        said["stop"] = wished.stop
    said |= dialect.neutral
    for name in _MORE:
        if getattr(wished, name) != getattr(_PLAIN, name):
            _check(dialect, name)
            said[dialect.names.get(name, name)] = getattr(wished, name)
    return said


def _seed(seed: int, seeds: int) -> int:
    """The seed as a server takes it: those of 64 bits with a sign."""
    found = seed % seeds
    return found - seeds if found >= _SIGN else found


def _check(dialect: Dialect, name: str) -> None:
    if name not in dialect.more:
        hint = ": use max_tokens or --stop-at-eos" if name == "ignore_eos" else ""
        what = "an exact length (`ignore_eos`)" if name == "ignore_eos" else f"`{name}`"
        msg = f"a server of the kind {dialect.name} does not support {what}{hint}"
        raise RequestRefused(msg)
