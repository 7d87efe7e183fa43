"""Rows as Excel, as one JSON list, and as Parquet: the further files of a combine node."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from trt_dp.errors import UsageError, WriteError
from trt_dp.system import safe_files
from trt_dp.system.extras import pip_install
from trt_dp.workflow.data.rows import Row

_LONGEST_CELL = 32_767
_MOST_LINES = 1_048_576


class ExcelOptions(Struct, frozen=True):
    """How an Excel file is written."""

    sheet_name: Annotated[str, Meta(min_length=1, max_length=31)] = "Sheet1"
    index: Literal[False] = False


class JsonOptions(Struct, frozen=True):
    """How a JSON list is written; null: on one line."""

    indent: Annotated[int, Meta(ge=0, le=16)] | None = 2
    orient: Literal["records"] = "records"


class ParquetOptions(Struct, frozen=True):
    """How a Parquet file is written."""

    compression: Literal["snappy", "gzip", "brotli", "zstd", "none"] = "snappy"
    index: Literal[False] = False


OPTIONS: dict[str, type[Struct]] = {
    "excel": ExcelOptions,
    "json": JsonOptions,
    "parquet": ParquetOptions,
}
_ENDS = {"excel": ".xlsx", "json": ".json", "parquet": ".parquet"}


def path_of(form: str, jsonl: Path) -> Path:
    """Where the rows of this file lie in another format."""
    return jsonl.with_suffix(_ENDS[form])


def check_installed(form: str) -> None:
    """Raises UsageError where the library of a format is missing."""
    if form != "json":
        _library(form)


def write(form: str, path: Path, rows: Sequence[Row], options: Any) -> None:
    """Write the rows in this format, whole or not at all; raises UsageError for what it cannot hold."""
    content = _WRITERS[form](rows, options)
    try:
        with safe_files.atomic_write(path, sync=True) as file:
            file.write(content)
    except OSError as error:
        msg = f"cannot write {path}: {error.strerror}. Fix the cause, then repeat the command"
        raise WriteError(msg) from error


def _json(rows: Sequence[Row], options: JsonOptions) -> bytes:
    return json.dumps(list(rows), ensure_ascii=False, indent=options.indent).encode() + b"\n"


def _excel(rows: Sequence[Row], options: ExcelOptions) -> bytes:
    if len(rows) >= _MOST_LINES:
        msg = f"an Excel sheet holds {_MOST_LINES:,} rows at most, and there are {len(rows):,}: use parquet"
        raise UsageError(msg)
    buffer = io.BytesIO()
    book = _library("excel").Workbook(
        buffer, {"strings_to_formulas": False, "strings_to_urls": False}
    )
    try:
        sheet = book.add_worksheet(options.sheet_name)
    except ValueError as error:
        msg = f"the sheet name {options.sheet_name!r} cannot be used: {error}"
        raise UsageError(msg) from error
    titles = _titles(rows)
    sheet.write_row(0, 0, titles)
    for number, row in enumerate(rows, start=1):
        for column, title in enumerate(titles):
            _write_cell(sheet, number, column, _scalar(row.get(title)))
    book.close()
    return buffer.getvalue()


def _write_cell(sheet: Any, row: int, column: int, value: Any) -> None:
    """Never a formula, and never a text that Excel would cut."""
    if isinstance(value, str):
        if len(value) > _LONGEST_CELL:
            held = f"an Excel cell holds {_LONGEST_CELL:,}: use parquet"
            msg = f"row {row} has a text of {len(value):,} characters, and {held}"
            raise UsageError(msg)
        sheet.write_string(row, column, value)
    elif value is not None:
        sheet.write(row, column, value)


def _parquet(rows: Sequence[Row], options: ParquetOptions) -> bytes:
    arrow, writer = _library("parquet")
    titles = _titles(rows)
    columns = {title: _column([_scalar(row.get(title)) for row in rows]) for title in titles}
    buffer = io.BytesIO()
    writer.write_table(arrow.table(columns), buffer, compression=options.compression)
    return buffer.getvalue()


def _column(cells: list[Any]) -> list[Any]:
    """Cells of one type; where they differ, all are JSON."""
    kinds = {type(cell) for cell in cells if cell is not None}
    if len(kinds) <= 1:
        return cells
    if kinds == {int, float}:
        return [None if cell is None else float(cell) for cell in cells]
    return [None if cell is None else json.dumps(cell, ensure_ascii=False) for cell in cells]


def _scalar(value: Any) -> Any:
    """A value for one cell: lists, objects and huge numbers as JSON."""
    nested = isinstance(value, list | dict)
    huge = isinstance(value, int) and not -(2**53) <= value <= 2**53
    return json.dumps(value, ensure_ascii=False) if nested or huge else value


def _titles(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _library(form: str) -> Any:
    try:
        if form == "excel":
            import xlsxwriter

            return xlsxwriter
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        package = "workflow" if form == "excel" else "parquet"
        msg = f"the format {form} needs a library: {pip_install(package)}"
        raise UsageError(msg) from error
    return pa, parquet


_WRITERS: dict[str, Callable[[Sequence[Row], Any], bytes]] = {
    "excel": _excel,
    "json": _json,
    "parquet": _parquet,
}
