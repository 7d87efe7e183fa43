"""OpenAI's batch files: lines with `custom_id`, `method`, `url` and `body`, for chat and for completions."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from msgspec import Raw, Struct, structs

from trt_dp.dataset import json_row, lines
from trt_dp.dataset.fields import Fields
from trt_dp.dataset.inputs import Opened
from trt_dp.dataset.readers.contract import Options, Row
from trt_dp.errors import UNREADABLE, BadLine
from trt_dp.system.reasons import why

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
_HARMLESS = ("stream", "stream_options", "parallel_tool_calls", "tool_choice", "service_tier")


class _Line(Struct):
    """One line of a batch file."""

    custom_id: str
    body: dict[str, Raw]
    url: str = CHAT
    method: str = "POST"


class _OnlyId(Struct):
    """What is read of a line that is invalid otherwise."""

    custom_id: str | None = None


_line = msgspec.json.Decoder(_Line).decode
_only_id = msgspec.json.Decoder(_OnlyId).decode
_encode = msgspec.json.Encoder().encode
_NULL = b"null"


def from_line(line: bytes) -> Fields:
    """The Fields of a batch line; raises BadLine with the reason."""
    try:
        asked = _line(line)
    except UNREADABLE as error:
        raise BadLine(why(error)) from error
    url = asked.url.rstrip("/")
    if asked.method.upper() != "POST" or url not in (CHAT, COMPLETIONS):
        msg = f"{asked.method} {asked.url} is not supported: only POST to {CHAT} and {COMPLETIONS}"
        raise BadLine(msg)
    body = {name: value for name, value in asked.body.items() if bytes(value) != _NULL}
    _check_body(body, url)
    fields = json_row.from_json(_encode(_canonical(body, url)))
    if fields.input_ids is None and bool(fields.messages) != (url == CHAT):
        msg = f"{url} takes {'`messages`' if url == CHAT else '`prompt`'}"
        raise BadLine(msg)
    more = {**fields.more, "url": Raw(_encode(url))}
    return structs.replace(fields, task_id=asked.custom_id, more=more)


def _check_body(body: dict[str, Raw], url: str) -> None:
    if bytes(body.get("stream", b"false")) == b"true":
        msg = "`stream` is not supported in a batch"
        raise BadLine(msg)
    names = {
        "input_ids",
        "logits",
        "output_tokens",
        "output_len",
        "input_len",
        "task_id",
    } & body.keys()
    if names:
        msg = f"`{min(names)}` is not a field of {url}"
        raise BadLine(msg)


def _canonical(body: dict[str, Raw], url: str) -> dict[str, Raw]:
    """The body under the names of our own lines."""
    found = {name: value for name, value in body.items() if name not in _HARMLESS}
    if "max_completion_tokens" in found:
        found["max_tokens"] = found.pop("max_completion_tokens")
    prompt = bytes(found.get("prompt", b""))
    if url == COMPLETIONS and prompt.startswith(b"["):
        del found["prompt"]
        found.update(_listed(prompt))
    return found


def _listed(prompt: bytes) -> dict[str, Raw]:
    """A prompt that is a list: token ids, or one text."""
    if prompt[1:].lstrip()[:1] not in (b'"', b"["):
        return {"input_ids": Raw(prompt)}
    prompts = msgspec.json.decode(prompt, type=list[Raw])
    if len(prompts) != 1:
        msg = f"`prompt` holds {len(prompts)} prompts: give each a line of its own"
        raise BadLine(msg)
    only = bytes(prompts[0])
    return {"input_ids" if only.startswith(b"[") else "prompt": prompts[0].copy()}


class OpenaiBatch:
    """OpenAI's batch files."""

    unit = "line"
    line = staticmethod(from_line)

    def recognise(self, head: bytes, name: str) -> bool:
        """Whether the first line has a `custom_id` and a `body`."""
        del name
        first = head.removeprefix(lines.BOM).lstrip().partition(b"\n")[0]
        return first.startswith(b"{") and b'"custom_id"' in first and b'"body"' in first

    def rows(self, opened: Opened, options: Options) -> Iterator[Row]:
        """The lines in order."""
        del options
        return lines.rows(opened, from_line)
