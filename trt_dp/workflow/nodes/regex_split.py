"""The node regex_split: a row for each part of a text, cut by a regular expression."""

from __future__ import annotations

import re

from msgspec import Struct

from trt_dp.workflow.checks import refuse
from trt_dp.workflow.contract import Type, Work
from trt_dp.workflow.data.rows import Row
from trt_dp.workflow.nodes.utility import each, text_of


class Params(Struct, frozen=True, kw_only=True):
    """What this node has of its own."""

    split_regex: str
    text_attribute: str = "text"
    strip_splits: bool = False
    filter_empty: bool = True


def check(work: Work) -> None:
    """Raises UsageError for an expression that is not one, or matches nothing but empty text."""
    place, pattern = f"{work.place}.split_regex", work.params.split_regex
    if not pattern:
        refuse(place, "the expression is empty, so it cuts nothing")
    compiled(pattern, place)


def compiled(pattern: str, place: str) -> re.Pattern[str]:
    """The expression; raises UsageError if it is not one."""
    try:
        return re.compile(pattern)
    except re.error as error:
        refuse(place, f"{pattern!r} is not a regular expression: {error}")


def split(row: Row, key: str, params: Params) -> list[Row]:
    """The row as one row for each part: KEY_0, KEY_1, ..."""
    found = re.split(params.split_regex, text_of(row, params.text_attribute))
    parts = [part for part in found if part is not None]  # a group that took no part
    if params.strip_splits:
        parts = [part.strip() for part in parts]
    if params.filter_empty:
        parts = [part for part in parts if part]
    return [
        {**row, key: f"{row[key]}_{number}", params.text_attribute: part, "split_index": number}
        for number, part in enumerate(parts)
    ]


TYPE = Type(
    params=Params,
    make=each(split),
    check=check,
    attribute=lambda params: params.text_attribute,
    repeats="passes",
)
