"""What the utility nodes share: rows in, rows out, and rows that fail are listed with a reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trt_dp.errors import BadLine
from trt_dp.workflow.contract import Failed, Made, Work
from trt_dp.workflow.data import rows as data
from trt_dp.workflow.data.rows import Row
from trt_dp.workflow.nodes.reading import read_input


def each(change: Callable[[Row, str, Any], list[Row]]) -> Callable[[Work], Made]:
    """A node that makes rows of each row; BadLine from `change` is the reason why one fails."""

    def make(work: Work) -> Made:
        made, failed = apply(change, read_input(work), work.output.key, work.params)
        return Made(rows=made, failed=failed)

    return make


def apply(
    change: Callable[[Row, str, Any], list[Row]], rows: list[Row], key: str, params: Any
) -> tuple[list[Row], list[Failed]]:
    """The rows made of all these, and those that failed."""
    made: list[Row] = []
    failed: list[Failed] = []
    for row in rows:
        found = _changed(change, row, key, params)
        if isinstance(found, BadLine):
            failed.append(Failed(key=data.key_of(row, key), kind="bad_row", message=str(found)))
        else:
            made += found
    return made, failed


def _changed(
    change: Callable[[Row, str, Any], list[Row]], row: Row, key: str, params: Any
) -> list[Row] | BadLine:
    try:
        return change(row, key, params)
    except BadLine as reason:
        return reason


def together(change: Callable[[list[Row], str, Any], list[Row]]) -> Callable[[Work], Made]:
    """A node that looks at all rows at once."""

    def make(work: Work) -> Made:
        return Made(rows=change(read_input(work), work.output.key, work.params))

    return make


def text_of(row: Row, name: str) -> str:
    """The text in a column; raises BadLine where there is none."""
    value = row.get(name)
    if value is None:
        msg = f"the row has no {name!r}"
        raise BadLine(msg)
    return str(value)
