"""CSV and Excel as rows: a line of titles, then a row a line. The only file that reads Excel."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from trt_dp.errors import UsageError
from trt_dp.system.extras import pip_install
from trt_dp.workflow.json_text import read_text

_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,300}")
_DECIMAL = re.compile(
    r"-?((0|[1-9][0-9]{0,16})(\.[0-9]{1,16})?|\.[0-9]{1,16})([eE][-+]?[0-9]{1,2})?"
)
_TRUTH = {"true": True, "false": False}


def read(path: Path, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows with their places; an empty cell is null, and a CSV key stays text."""
    if path.suffix.lower() == ".csv":
        return _csv(path, key)
    return _excel(path)


def _csv(path: Path, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """A column of whole numbers stays one; a number with a leading zero is text."""
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        titles = _titles(path, next(reader, []))
        lines = [(reader.line_num, cells) for cells in reader if cells]
    except csv.Error as error:
        msg = f"{path}, line {reader.line_num}: {error}"
        raise UsageError(msg) from error
    for number, cells in lines:
        if len(cells) != len(titles):
            msg = f"{path}, line {number}: it has {len(cells)} cells, and the titles are {len(titles)}"
            raise UsageError(msg)
    columns = zip(*(cells for _, cells in lines), strict=True)
    typed = [
        [cell or None for cell in column] if title == key else _typed(column)
        for title, column in zip(titles, columns, strict=False)
    ]
    for place, (number, _) in enumerate(lines):
        yield (
            f"line {number}",
            {title: column[place] for title, column in zip(titles, typed, strict=True)},
        )


def _typed(column: Sequence[str]) -> list[Any]:
    """The cells of a column as what all of them are."""
    given = [cell for cell in column if cell]
    if given and all(map(_WHOLE.fullmatch, given)):
        return [int(cell) if cell else None for cell in column]
    if given and all(map(_DECIMAL.fullmatch, given)):
        return [float(cell) if cell else None for cell in column]
    if given and all(cell.lower() in _TRUTH for cell in given):
        return [_TRUTH.get(cell.lower()) for cell in column]
    return [cell or None for cell in column]


def _titles(path: Path, titles: Sequence[Any]) -> list[str]:
    names = ["" if title is None else str(title) for title in titles]
    if not any(names):
        msg = f"{path} has no titles: its first line names the columns"
        raise UsageError(msg)
    if twice := sorted({name for name in names if names.count(name) > 1}):
        msg = f"{path} has several columns named {twice[0]!r}: give each a name of its own"
        raise UsageError(msg)
    return names


def _excel(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        import python_calamine
    except ImportError as error:
        msg = f"{path}: Excel files need python-calamine: {pip_install('workflow')}"
        raise UsageError(msg) from error
    try:
        sheet = python_calamine.CalamineWorkbook.from_path(path).get_sheet_by_index(0)
        lines = sheet.to_python(skip_empty_area=False)
    except (python_calamine.CalamineError, OSError, ValueError) as error:
        msg = f"{path} cannot be read as an Excel file: {error}"
        raise UsageError(msg) from error
    titles = _titles(path, lines[0] if lines else [])
    for number, cells in enumerate(lines[1:], start=2):
        if any(cell != "" for cell in cells):
            yield f"row {number}", dict(zip(titles, map(_cell, cells), strict=True))


def _cell(value: Any) -> Any:
    """Excel knows only one kind of number, and has dates."""
    if value == "":
        return None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return str(value) if isinstance(value, timedelta) else value
