"""Rows in files: JSON lines, a JSON array, CSV or Excel in; JSON lines out. A row is an object with a key."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from trt_dp.errors import UNREADABLE, UsageError, WriteError
from trt_dp.system import safe_files
from trt_dp.workflow.data import tables
from trt_dp.workflow.json_text import read_text

Row = dict[str, Any]
ENDS = (".jsonl", ".json", ".csv", ".xlsx", ".xls")
_SHOWN = 3


class Found(Struct, frozen=True):
    """The rows of a file in order, and what was skipped, as sentences."""

    rows: list[Row]
    skipped: list[str]


def read(path: Path, key: str) -> Found:
    """The rows that have this key; raises UsageError where the file cannot be read as a whole."""
    end = path.suffix.lower()
    if end not in ENDS:
        msg = f"{path} is none of the formats that can be read: {', '.join(ENDS)}"
        raise UsageError(msg)
    if end == ".jsonl":
        return _keyed(_lines(path), key)
    if end == ".json":
        return _keyed(_array(path), key)
    return _keyed(tables.read(path, key), key)


def from_objects(rows: Iterable[tuple[str, Any]], key: str) -> Found:
    """The same of objects that come with their places."""
    return _keyed(rows, key)


def dump(row: Row) -> bytes:
    """A row as a line; raises ValueError for what JSON in UTF-8 cannot hold."""
    text = json.dumps(row, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode() + b"\n"


def write(path: Path, rows: Iterable[Row]) -> None:
    """Write the rows whole or not at all."""
    write_lines(path, (dump(row) for row in rows))


def write_lines(path: Path, lines: Iterable[bytes]) -> None:
    """The same of lines."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with safe_files.atomic_write(path, sync=True) as file:
            file.writelines(lines)
    except OSError as error:
        msg = f"cannot write {path}: {error.strerror}. Fix the cause, then repeat the command"
        raise WriteError(msg) from error


def key_of(row: Row, key: str) -> str:
    """The key of a row as text, which is how keys are compared."""
    return str(row[key])


def last_of_each(rows: Iterable[Row], key: str) -> list[Row]:
    """The rows with different keys: of several with one key the last, in the place of the first."""
    found: dict[str, Row] = {}
    for row in rows:
        found[key_of(row, key)] = row
    return list(found.values())


def repeating(count: int) -> str:
    """What is said where so many rows are replaced by a later one."""
    return f"rows that repeat a key: {count:,} (the last row of each key counts)"


def in_short(skipped: Sequence[str]) -> str:
    """The first of many reasons, and how many more there are."""
    more = len(skipped) - _SHOWN
    return "; ".join(skipped[:_SHOWN]) + (f"; and {more:,} more" if more > 0 else "")


def _keyed(found: Iterable[tuple[str, Any]], key: str) -> Found:
    rows: list[Row] = []
    skipped: list[str] = []
    for place, row in found:
        if why := _unusable(row, key):
            skipped.append(f"{place}: {why}")
        else:
            rows.append(row)
    return Found(rows, skipped)


def _unusable(row: Any, key: str) -> str | None:
    if isinstance(row, Exception):
        return str(row)
    if not isinstance(row, dict):
        return "it is not an object"
    if row.get(key) is None:
        return f"it has no {key!r}"
    try:
        dump(row)
    except UNREADABLE as error:
        return str(error)
    return None


def _lines(path: Path) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            yield f"line {number}", _value(line)


def _value(line: str) -> Any:
    """The value in a line, or why there is none."""
    try:
        return json.loads(line)
    except UNREADABLE as error:
        return ValueError(f"it is not valid JSON ({error})")


def _array(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        rows = json.loads(read_text(path))
    except UNREADABLE as error:
        msg = f"{path} is not valid JSON: {error}"
        raise UsageError(msg) from error
    if not isinstance(rows, list):
        msg = (
            f"{path} is not a list: a .json file holds one list of objects; name JSON lines .jsonl"
        )
        raise UsageError(msg)
    for number, row in enumerate(rows):
        yield f"item {number}", row
