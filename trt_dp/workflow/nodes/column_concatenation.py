"""The node column_concatenation: the texts of several columns joined in a new one."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from trt_dp.errors import BadLine
from trt_dp.workflow.checks import refuse
from trt_dp.workflow.contract import Type, Work
from trt_dp.workflow.data.rows import Row
from trt_dp.workflow.nodes.utility import each


class Params(Struct, frozen=True, kw_only=True):
    """What this node has of its own."""

    columns_to_concat: list[str]
    output_column: str = "concatenated_text"
    separator: str = " "
    skip_missing: bool = True
    skip_empty: bool = True


def check(work: Work) -> None:
    """Raises UsageError where there is nothing to join, or a column is named twice."""
    names = work.params.columns_to_concat
    place = f"{work.place}.columns_to_concat"
    if not names:
        refuse(place, "the list is empty: name at least one column")
    for number, name in enumerate(names):
        if name in names[:number]:
            refuse(f"{place}[{number}]", f"{name!r} is listed twice: remove one")
    if work.params.output_column == work.output.key:
        refuse(
            f"{work.place}.output_column", f"{work.output.key!r} is the key: choose another name"
        )


def concatenate(row: Row, key: str, params: Params) -> list[Row]:
    """The row with its key as text, the new column, and all others."""
    texts = [_text(row[name]) for name in params.columns_to_concat if _is_there(row, name, params)]
    kept = [text for text in texts if text.strip()] if params.skip_empty else texts
    joined = params.separator.join(kept)
    first = {key: str(row[key]), params.output_column: joined}
    return [{**first, **row, **first}]


def _is_there(row: Row, name: str, params: Params) -> bool:
    if name not in row and not params.skip_missing:
        msg = f"the row has no {name!r}"
        raise BadLine(msg)
    return name in row


def _text(value: Any) -> str:
    return "" if value is None else str(value)


TYPE = Type(
    params=Params,
    make=each(concatenate),
    check=check,
    attribute=lambda params: params.output_column,
    repeats="passes",
)
