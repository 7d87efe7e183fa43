"""Prompts read from files: lines of text, JSON lines, and OpenAI batch files; unknown fields are refused by name."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

import msgspec
from msgspec import Struct

from trt_dp.errors import UNREADABLE, DatasetError
from trt_dp.synthetic.workload import MAX_OUTPUT

STDIN = Path("-")
_JSON_SUFFIXES = (".jsonl", ".json", ".ndjson")
_TEXTS = ("prompt", "text", "messages")
_LIMITS = ("output_tokens", "output_len", "max_completion_tokens", "max_tokens")
_NAMES = ("task_id", "custom_id")
_KNOWN = frozenset((*_TEXTS, *_LIMITS, *_NAMES))
_BATCH = frozenset(("custom_id", "method", "url", "body"))
_BODY = frozenset((*_TEXTS, *_LIMITS, "model"))
_MESSAGE = frozenset(("role", "content"))
_PART = frozenset(("type", "text"))
_URLS = ("/v1/completions", "/v1/chat/completions")
_WHY = {
    "lora_request": "only trt-dp run takes adapters, in the lines of its own file",
    "media_paths": "no engine here takes images, audio or video",
    "turns": "a request has one prompt",
    "input_ids": "these are ids already",
    "logits": "these are ids already",
    "temperature": "sampling is the same for a whole run: pass --temperature to trt-dp run",
    "top_p": "sampling is the same for a whole run: pass --top-p to trt-dp run",
    "top_k": "sampling is the same for a whole run: pass --top-k to trt-dp run",
    "seed": "sampling is the same for a whole run: pass --seed to trt-dp run",
    "stop": "answers end at their length, or with --stop-at-eos of trt-dp run",
}


class Prompt(Struct, frozen=True):
    """A text to continue; `output_tokens` and `name` are None where the file does not give them."""

    text: str
    output_tokens: int | None = None
    name: int | str | None = None


def read_prompts(path: Path) -> Iterator[Prompt]:
    """The prompts of a text file (one per line), of JSON lines, or of an OpenAI batch file; `-` is stdin."""
    try:
        with _open(path) as file:
            parse: Callable[[str], Prompt] | None = None
            for number, line in enumerate(file, 1):
                if line.isspace():
                    continue
                parse = parse or (_from_json if _is_json(path, line) else _from_text)
                yield _parsed(path, number, line, parse)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        msg = f"cannot read {shown(path)}: {reason}"
        raise DatasetError(msg) from error


def _open(path: Path) -> contextlib.AbstractContextManager[TextIO]:
    if path == STDIN:
        return open(0, encoding="utf-8-sig", closefd=False)
    return path.open(encoding="utf-8-sig")


def shown(path: Path) -> str:
    """The file as messages name it."""
    return "stdin" if path == STDIN else str(path)


def _is_json(path: Path, line: str) -> bool:
    return path.suffix.lower() in _JSON_SUFFIXES or line.lstrip().startswith('{"')


def _parsed(path: Path, number: int, line: str, parse: Callable[[str], Prompt]) -> Prompt:
    try:
        return parse(line)
    except UNREADABLE as error:
        msg = f"{shown(path)}: line {number} is not a prompt: {error}"
        raise DatasetError(msg) from error


def _from_text(line: str) -> Prompt:
    return Prompt(line.rstrip("\r\n"))


def _from_json(line: str) -> Prompt:
    fields = _object(msgspec.json.decode(line), "the line")
    name = _name(fields)
    if "body" in fields:
        fields = _body(fields)
    else:
        _check_fields(fields, _KNOWN)
    return Prompt(_text(fields), _limit(fields), name)


def _object(value: Any, what: str) -> dict[str, Any]:
    """The fields that have a value; null counts as absent."""
    if not isinstance(value, dict):
        msg = f"{what} is not a JSON object"
        raise ValueError(msg)  # noqa: TRY004 (everything wrong with a line is one kind of error)
    return {key: given for key, given in value.items() if given is not None}


def _check_fields(fields: dict[str, Any], known: Iterable[str]) -> None:
    """Raises ValueError for a field that would be lost; an empty list of media is nothing to lose."""
    for key, value in fields.items():
        if key in known or (key == "media_paths" and value == []):
            continue
        why = _WHY.get(key, f"known are {', '.join(sorted(known))}")
        msg = f"`{key}` is not supported: {why}"
        raise ValueError(msg)


def _body(fields: dict[str, Any]) -> dict[str, Any]:
    """The body of a request in an OpenAI batch file."""
    _check_fields(fields, _BATCH)
    url = fields.get("url", _URLS[0])
    if url not in _URLS:
        msg = f"`url` is {url!r}; supported are {' and '.join(_URLS)}"
        raise ValueError(msg)
    body = _object(fields["body"], "`body`")
    _check_fields(body, _BODY)
    return body


def _name(fields: dict[str, Any]) -> int | str | None:
    key, value = _only(fields, _NAMES)
    if value is None or isinstance(value, str):
        return value
    if type(value) is not int or not -(2**63) <= value < 2**64:
        msg = f"`{key}` is {value!r}, not a text or a whole number of 64 bits"
        raise ValueError(msg)
    return value


def _only(fields: dict[str, Any], names: Iterable[str]) -> tuple[str, Any]:
    """The one field of these that is given, if any; raises ValueError where there are several."""
    given = [name for name in names if name in fields]
    if len(given) > 1:
        msg = f"both `{given[0]}` and `{given[1]}` are given"
        raise ValueError(msg)
    return (given[0], fields[given[0]]) if given else ("", None)


def _text(fields: dict[str, Any]) -> str:
    key, text = _only(fields, _TEXTS)
    if key == "messages" and isinstance(text, list):
        text = "\n".join(_said(message) for message in text)
    if not isinstance(text, str) or not text:
        msg = "it has no text as `prompt`, `text` or `messages`"
        raise ValueError(msg)
    return text


def _said(message: Any) -> str:
    """The text of a chat message; no chat template is applied."""
    fields = _object(message, "a message")
    _check_fields(fields, _MESSAGE)
    content = fields.get("content")
    if isinstance(content, list):
        content = "".join(_part(part) for part in content)
    if not isinstance(content, str):
        msg = "a message has no text as `content`"
        raise ValueError(msg)  # noqa: TRY004 (everything wrong with a line is one kind of error)
    return content


def _part(part: Any) -> str:
    fields = _object(part, "a part of a message")
    kind = fields.get("type", "text")
    if kind != "text":
        msg = f"a part of a message is {kind!r}: no engine here takes anything but text"
        raise ValueError(msg)
    _check_fields(fields, _PART)
    if not isinstance(fields.get("text"), str):
        msg = "a part of a message has no text as `text`"
        raise ValueError(msg)  # noqa: TRY004 (everything wrong with a line is one kind of error)
    return str(fields["text"])


def _limit(fields: dict[str, Any]) -> int | None:
    key, value = _only(fields, _LIMITS)
    if value is None:
        return None
    if type(value) is not int or not 1 <= value <= MAX_OUTPUT:
        msg = f"`{key}` is {value!r}, not a number of tokens"
        raise ValueError(msg)
    return value
