"""The items of one JSON document that holds them all: it is read whole, so its size has a limit."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from msgspec import Raw

from trt_dp.dataset import lines
from trt_dp.dataset.inputs import BROKEN, Opened, broken
from trt_dp.dataset.readers.contract import Row
from trt_dp.errors import UNREADABLE, DatasetError

MAX_DOCUMENT = 2 << 30
_PIECE = 1 << 24
_decode_list = msgspec.json.Decoder(list[Raw]).decode


def rows(
    source: Opened,
    parse: lines.Parse,
    items: Callable[[Any], list[Raw]] = _decode_list,
) -> Iterator[Row]:
    """A row for each item; raises DatasetError unless the document is valid as a whole."""
    with _whole(source) as text:
        start = len(lines.BOM) if text[: len(lines.BOM)] == lines.BOM else 0
        with memoryview(text) as whole, whole[start:] as view:
            try:
                found = [bytes(item) for item in items(view)]
            except UNREADABLE as error:
                msg = f"{source.name} is not a valid JSON document: {error}"
                raise DatasetError(msg) from error
        for item in found:
            yield lines.row_of(item if len(item) <= lines.MAX_LINE else len(item), parse)


@contextmanager
def _whole(source: Opened) -> Iterator[Any]:
    """All bytes: mapped where they lie in a file, read in bounded memory otherwise."""
    if source.path is None:
        yield _read(source)
        return
    with mmap.mmap(source.file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        yield text


def _read(source: Opened) -> bytes:
    parts, size = [], 0
    try:
        while piece := source.file.read(_PIECE):
            parts.append(piece)
            size += len(piece)
            if size > MAX_DOCUMENT:
                msg = f"{source.name} holds one JSON document of more than {MAX_DOCUMENT >> 30} GiB: use JSON lines"
                raise DatasetError(msg)
    except BROKEN as error:
        raise broken(source.name, error) from error
    return b"".join(parts)
