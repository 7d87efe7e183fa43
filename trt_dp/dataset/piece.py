"""Rows on their way into the index: where each lies, what it holds, and a checksum of it all."""

from __future__ import annotations

import zlib
from array import array
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from trt_dp.dataset.fields import NO_SAMPLING, Fields, to_json
from trt_dp.dataset.readers.contract import Bad, Blank, Block, Row
from trt_dp.dataset.row import notable
from trt_dp.types import PromptKind

LINE = np.dtype(
    [
        ("offset", "<i8"),
        ("length", "<i4"),
        ("input_tokens", "<i4"),
        ("output_tokens", "<i4"),
        ("kind", "u1"),
    ]
)
"""Where a request lies and what it holds; `kind` is a PromptKind."""
_MOST_NAMES = 100  # a hostile file may have a new one in each row
_INVALID = (PromptKind.INVALID.value, 0)
_INT32, _FIELDS = 4, len(LINE.names or ())


class Piece(Struct):
    """A part of a dataset: packed LINEs, why some are invalid, and where blank lines lie, both by position in it."""

    lines: bytes
    bad: dict[int, str]
    blanks: list[int]
    checksum: int
    stop: int
    notable: list[str] = []  # names in its rows that a run should know of


class Gathering:
    """The rows of a piece as they are found; `content` is what a store holds of them."""

    def __init__(self) -> None:
        self.content = bytearray()
        self._lines = array("q")  # the fields of a LINE, one row after the other
        self._bad: dict[int, str] = {}
        self._blanks: list[int] = []
        self._checksum = 0
        self._notable: set[str] = set()

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self._lines) // _FIELDS

    def add(self, row: Row, place: tuple[int, int] | None = None) -> None:
        """Add a row; it lies at this place of the user's file, or next in the store."""
        if isinstance(row, Block):
            self._add_block(row)
        elif isinstance(row, Blank):
            self._blanks.append(len(self))
        elif isinstance(row, Bad) or row.input_ids is None:
            self._record(row, b"", place)
        else:
            self._record(row, _bytes(row.input_ids), place)

    def _add_block(self, block: Block) -> None:
        ids = _bytes(block.ids)
        start = 0
        for row, length in zip(block.rows, block.lengths, strict=True):
            stop = start + _INT32 * length
            self._record(row, b"" if isinstance(row, Bad) else ids[start:stop], None)
            start = stop

    def _record(
        self, row: Fields | Bad, ids: bytes | memoryview, place: tuple[int, int] | None
    ) -> None:
        if isinstance(row, Bad):
            self._bad[len(self)] = row.reason
            (kind, output_tokens), told = _INVALID, to_json(Fields(task_id=row.task_id))
            head = to_json(Fields(task_id=row.task_id, more=row.more)) if row.more else told
        else:
            head = told = to_json(row)
            kind, output_tokens = _kind(row, len(ids)), row.exact_tokens or row.max_tokens or 0
            if (row.more or row.sampling is not NO_SAMPLING) and len(self._notable) < _MOST_NAMES:
                self._notable |= notable(row)
            if row.max_tokens:
                self._notable.add("max_tokens")
        self._checksum = zlib.crc32(ids, zlib.crc32(told, self._checksum))
        length = len(head) + len(ids)
        if place is None:
            place = (len(self.content), length)
            self.content += head
            self.content += ids
        self._lines.extend((*place, len(ids) // _INT32, output_tokens, kind))

    def piece(self, stop: int, base: int = 0) -> Piece:
        """All of it, packed; `base` is where its records begin in the store."""
        fields = np.array(self._lines, np.int64).reshape(-1, _FIELDS)
        lines = np.empty(len(fields), LINE)
        for name, column in zip(LINE.names or (), fields.T, strict=True):
            lines[name] = column
        lines["offset"] += base
        return Piece(
            lines=lines.tobytes(),
            bad=self._bad,
            blanks=self._blanks,
            checksum=self._checksum,
            stop=stop,
            notable=sorted(self._notable),
        )


def _bytes(ids: NDArray[Any]) -> memoryview:
    """Ids as a store keeps them."""
    return np.ascontiguousarray(ids, np.int32).view(np.uint8).data


def _kind(row: Fields, ids: int) -> int:
    if ids:
        return PromptKind.IDS
    return PromptKind.CHAT if row.prompt is None else PromptKind.TEXT
