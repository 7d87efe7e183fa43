"""Lines of an input one by one, in bounded memory however long they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import BinaryIO

from trt_dp.dataset import json_row
from trt_dp.dataset.fields import Fields
from trt_dp.dataset.inputs import BROKEN, Opened, broken
from trt_dp.dataset.readers.contract import Bad, Blank, Row
from trt_dp.errors import BadLine

MAX_LINE = 64 << 20
BOM = b"\xef\xbb\xbf"
_BUFFER = 1 << 20
_BLANK = Blank()

Parse = Callable[[bytes], Fields]


def rows(source: Opened, parse: Parse) -> Iterator[Row]:
    """A row for each line; raises DatasetError where the input cannot be read to its end."""
    try:
        for line in lines(source.file):
            yield row_of(line, parse)
    except BROKEN as error:
        raise broken(source.name, error) from error


def row_of(line: bytes | int, parse: Parse) -> Row:
    """One line as a row; an invalid one as the reason."""
    if isinstance(line, int):
        return Bad(too_long(line))
    if line.isspace() or not line:
        return _BLANK
    try:
        return parse(line)
    except BadLine as reason:
        return Bad(str(reason), json_row.task_id(line), json_row.others(line))


def too_long(length: int) -> str:
    """Why a line of this length is invalid."""
    return f"the line is {length} bytes long; the limit is {MAX_LINE}"


def lines(file: BinaryIO) -> Iterator[bytes | int]:
    """Each line, without the byte-order mark of the file; of a line that is too long, only its length."""
    first = True
    while line := file.readline(MAX_LINE + 1):
        if first:
            line, first = line.removeprefix(BOM), False
        if len(line) > MAX_LINE:
            yield len(line) + (0 if line.endswith(b"\n") else skip_line(file))
        else:
            yield line


def skip_line(file: BinaryIO) -> int:
    """Skip the rest of a line, however long, in bounded memory; returns its length."""
    skipped = 0
    while piece := file.readline(_BUFFER):
        skipped += len(piece)
        if piece.endswith(b"\n"):
            break
    return skipped
