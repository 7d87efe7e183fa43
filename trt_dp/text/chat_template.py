"""Chat messages as one prompt, written by the model's own template."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
from msgspec import Raw

from trt_dp.errors import RequestRefused, UsageError
from trt_dp.system import safe_files
from trt_dp.system.extras import pip_install

_FILE = "chat_template.jinja"
_TOKENIZER_CONFIG = "tokenizer_config.json"
_SPECIAL = (_TOKENIZER_CONFIG, "special_tokens_map.json")
_MOST_BYTES = 1 << 20
_PROBE = "ovu3o8"
_SYSTEM = ("system", "developer")

Message = dict[str, Any]


class ChatTemplate:
    """A model's chat template, compiled once."""

    def __init__(self, folder: Path) -> None:
        jinja = _jinja()
        self._faults = jinja.FAULTS
        source = read_source(folder)
        if source is None:
            raise UsageError(missing(folder))
        try:
            self._template = jinja.compile_template(source)
        except self._faults as error:
            msg = f"the chat template in {folder} cannot be used: {error}"
            raise UsageError(msg) from error
        self._special = special_tokens(folder)
        self._takes_parts = self._writes_parts()

    def prompt(self, messages: Raw, settings: Raw, system: str | None = None) -> str:
        """The prompt of these messages; raises RequestRefused where the template refuses them."""
        chat: list[Message] = _with_system(msgspec.json.decode(messages), system)
        if not self._takes_parts:
            chat = [_flat(message) for message in chat]
        try:
            return self._render(chat, msgspec.json.decode(settings) if settings else {})
        except self._faults as error:
            msg = f"the model's chat template refuses these messages: {error}"
            raise RequestRefused(msg) from error

    def _render(self, chat: list[Message], settings: Mapping[str, Any]) -> str:
        given = {"tools": None, "documents": None, "add_generation_prompt": True, **self._special}
        return str(self._template.render({**given, **settings, "messages": chat}))

    def _writes_parts(self) -> bool:
        """Whether the template itself reads messages that are lists of parts; most know text only."""
        part = {"type": "text", "text": _PROBE}
        try:
            written = self._render([{"role": "user", "content": [part]}], {})
        except self._faults:
            return False
        return _PROBE in written and f"'{_PROBE}'" not in written and f'"{_PROBE}"' not in written


def with_system(messages: Raw, system: str | None) -> bytes:
    """The messages as JSON, after this system message unless they have their own."""
    if system is None:
        return bytes(messages)
    return msgspec.json.encode(_with_system(msgspec.json.decode(messages), system))


def _with_system(chat: list[Message], system: str | None) -> list[Message]:
    if system is None or chat[0].get("role") in _SYSTEM:
        return chat
    return [{"role": "system", "content": system}, *chat]


def check(folder: Path | None, why: str) -> None:
    """Raises UsageError unless the folder has a chat template and it can be used."""
    if importlib.util.find_spec("jinja2") is None:
        msg = f"{why}, which needs jinja2: {pip_install('tokenizers')}"
        raise UsageError(msg)
    if folder is None or read_source(folder) is None:
        msg = f"{why}, and {missing(folder)}"
        raise UsageError(msg)


def missing(folder: Path | None) -> str:
    """That there is no template, and what to do."""
    where = "there is no engine folder" if folder is None else f"{folder} has no chat template"
    return (
        f"{where}: put the model's {_TOKENIZER_CONFIG} or {_FILE} there, or write prompts as text"
    )


def read_source(folder: Path) -> str | None:
    """The template, from wherever models keep it; None if there is none."""
    if (folder / _FILE).is_file():
        with safe_files.look_into(folder / _FILE) as file:
            return file.read(_MOST_BYTES).decode(errors="replace")
    for name in (_TOKENIZER_CONFIG, "chat_template.json"):
        if found := _named(safe_files.read_json(folder / name).get("chat_template")):
            return found
    return None


def special_tokens(folder: Path) -> dict[str, str]:
    """The texts of `bos_token` and its like, which templates write."""
    found: dict[str, str] = {}
    for name in reversed(_SPECIAL):
        for key, value in safe_files.read_json(folder / name).items():
            text = value.get("content") if isinstance(value, dict) else value
            if key.endswith("_token") and isinstance(text, str):
                found[key] = text
    return found


def _named(given: Any) -> str | None:
    """A template, or the one called default of several."""
    if isinstance(given, list):
        named = {one.get("name"): one.get("template") for one in given if isinstance(one, dict)}
        given = named.get("default")
    return given if isinstance(given, str) else None


def _flat(message: Message) -> Message:
    """The message with its parts of text joined to one, a line each."""
    parts = message.get("content")
    if not isinstance(parts, list):
        return message
    return {**message, "content": "\n".join(str(part.get("text", "")) for part in parts)}


def _jinja() -> ModuleType:
    """The module that imports Jinja: only where there are chats."""
    try:
        from trt_dp.text import jinja  # noqa: PLC0415 - see above
    except ImportError as error:
        msg = f"chat messages need jinja2: {pip_install('tokenizers')}"
        raise UsageError(msg) from error
    return jinja
