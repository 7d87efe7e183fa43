"""Server-sent events, taken out of a body as it arrives in pieces."""

from __future__ import annotations

_DATA = b"data: "


class EventStream:
    """The data of each event; comments, names and ids of events are skipped."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> list[bytes]:
        """The data of the events that end in this piece."""
        text = self._rest + piece
        if b"\r" in text:
            text = _with_line_feeds(text)
        blocks = text.split(b"\n\n")
        self._rest = blocks.pop()
        return [data for block in blocks if (data := _data(block)) is not None]

    def end(self) -> list[bytes]:
        """The event that lacked its blank line when the body ended, if there is one."""
        data = _data(self._rest.rstrip(b"\r\n"))
        return [] if data is None else [data]


def _with_line_feeds(text: bytes) -> bytes:
    """One kind of line end; a carriage return at the end may still get its line feed."""
    held = text.endswith(b"\r")
    plain = text[: len(text) - held].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return plain + b"\r" if held else plain


def _data(block: bytes) -> bytes | None:
    """The data of an event, None if it has none; nearly every event is one line that begins with `data: `."""
    if block.startswith(_DATA) and b"\n" not in block:
        return block[6:]
    lines = [_value(line) for line in block.split(b"\n") if line.partition(b":")[0] == b"data"]
    return b"\n".join(lines) if lines else None


def _value(line: bytes) -> bytes:
    return line.partition(b":")[2].removeprefix(b" ")
