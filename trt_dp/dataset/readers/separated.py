"""CSV and TSV: a line of titles, then a request a row; a cell may span lines."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any, cast

import msgspec

from trt_dp.dataset import lines, tables
from trt_dp.dataset.fields import Fields
from trt_dp.dataset.inputs import BROKEN, Opened, broken
from trt_dp.dataset.readers.contract import Bad, Options, Row
from trt_dp.errors import UNREADABLE, BadLine, DatasetError

_ENDS = {".csv": ",", ".tsv": "\t"}
_TEXT_CELLS = ("prompt", "task_id")


class Separated:
    """CSV, or TSV by its name; numbers are text, and lists are JSON in a cell."""

    unit = "row"
    line = None
    has_columns = True

    def recognise(self, head: bytes, name: str) -> bool:
        """Whether its name ends with .csv or .tsv, before the suffix of a compression."""
        del head
        return name.endswith(tuple(_ENDS))

    def rows(self, opened: Opened, options: Options) -> Iterator[Row]:
        """The rows in order, in bounded memory."""
        csv.field_size_limit(lines.MAX_LINE)
        text = io.TextIOWrapper(cast("Any", opened.file), encoding="utf-8-sig", newline="")
        found = csv.reader(_limited(text), delimiter=_separator(opened), strict=True)
        try:
            yield from _rows(opened, found, options)
        except UnicodeDecodeError as error:
            msg = f"{opened.name} is not UTF-8 near line {found.line_num + 1}: convert it first (iconv)"
            raise DatasetError(msg) from error
        except csv.Error as error:
            msg = f"{opened.name}, line {found.line_num}: {error}"
            raise DatasetError(msg) from error
        except BROKEN as error:
            raise broken(opened.name, error) from error
        finally:
            text.detach()


def _rows(opened: Opened, found: Iterator[list[str]], options: Options) -> Iterator[Row]:
    titles = next(found, [])
    if len(set(titles)) != len(titles):
        msg = f"{opened.name} has two columns of the same name"
        raise DatasetError(msg)
    if not titles:
        return
    columns = tables.columns(opened.name, titles, options)
    for cells in found:
        if cells:
            yield _row(dict(zip(titles, cells, strict=False)), len(cells), columns)


def _separator(opened: Opened) -> str:
    if opened.base.endswith(".tsv"):
        return "\t"
    first = opened.head.partition(b"\n")[0]
    return "\t" if b"\t" in first and b"," not in first else ","


def _row(values: dict[str, str], count: int, columns: tables.Columns) -> Fields | Bad:
    expected = len(columns.known) + len(columns.more)
    if count != expected:
        return Bad(f"the row has {count} cells, the titles are {expected}")
    known, more = columns.cells(values)
    try:
        return tables.fields(_typed(known), more)
    except BadLine as reason:
        return tables.bad(str(reason), known.get("task_id"), more)


def _typed(cells: dict[str, str]) -> dict[str, Any]:
    """The cells as JSON values: an empty one is absent; numbers and lists are JSON in the cell."""
    return {
        name: cell if name in _TEXT_CELLS else _json(cell)
        for name, cell in cells.items()
        if cell or name == "prompt"
    }


def _json(cell: str) -> Any:
    try:
        return msgspec.json.decode(cell)
    except UNREADABLE:
        return cell  # as text, which is refused where a number is needed


def _limited(text: io.TextIOWrapper) -> Iterator[str]:
    """Lines of bounded length: csv asks for whole ones, however long."""
    while line := text.readline(lines.MAX_LINE + 1):
        if len(line) > lines.MAX_LINE:
            msg = f"a line has more than {lines.MAX_LINE} characters"
            raise csv.Error(msg)
        yield line
