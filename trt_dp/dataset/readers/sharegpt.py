"""ShareGPT: conversations in one JSON array, or one a line; a request is what comes before the first answer."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from msgspec import Raw, Struct

from trt_dp.dataset import array, json_row, lines
from trt_dp.dataset.fields import Fields
from trt_dp.dataset.inputs import Opened
from trt_dp.dataset.readers.contract import Options, Row
from trt_dp.errors import UNREADABLE, BadLine
from trt_dp.system.reasons import why

_ROLES = {
    "human": "user",
    "user": "user",
    "system": "system",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
}


class _Turn(Struct):
    """One turn, under either pair of names."""

    speaker: str | None = msgspec.field(name="from", default=None)
    value: str | None = None
    role: str | None = None
    content: str | None = None


_turns = msgspec.json.Decoder(list[_Turn]).decode
_object = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode


def from_item(item: bytes) -> Fields:
    """The Fields of a conversation; raises BadLine with the reason."""
    try:
        fields = _object(item)
        turns = _turns(fields.get("conversations", b"[]"))
    except UNREADABLE as error:
        raise BadLine(why(error)) from error
    wanted = {"messages": Raw(_encode(_beginning(turns)))}
    if "id" in fields:
        fields["task_id"] = fields.pop("id")
    return json_row.from_json(_encode({**fields, **wanted}))


def _beginning(turns: list[_Turn]) -> list[dict[str, str]]:
    """The messages up to the first answer; raises BadLine where nobody asks anything."""
    messages: list[dict[str, str]] = []
    for turn in turns:
        speaker = (turn.speaker or turn.role or "").lower()
        if speaker not in _ROLES:
            msg = f"`conversations` has a turn from {speaker!r}; known: {', '.join(_ROLES)}"
            raise BadLine(msg)
        if _ROLES[speaker] == "assistant" and messages:
            break
        text = turn.value if turn.value is not None else turn.content
        messages.append({"role": _ROLES[speaker], "content": text or ""})
    if not messages or messages[-1]["role"] != "user":
        msg = "`conversations` has no question before its first answer"
        raise BadLine(msg)
    return messages


class ShareGpt:
    """ShareGPT's conversations."""

    unit = "conversation"
    line = None

    def recognise(self, head: bytes, name: str) -> bool:
        """Whether the first object has `conversations`."""
        del name
        text = head.removeprefix(lines.BOM).lstrip()
        return text[:1] in (b"[", b"{") and b'"conversations"' in text[:8192]

    def rows(self, opened: Opened, options: Options) -> Iterator[Row]:
        """The conversations in order."""
        del options
        if opened.head.removeprefix(lines.BOM).lstrip().startswith(b"["):
            return array.rows(opened, from_item)
        return lines.rows(opened, from_item)
