"""The node row_concatenation: the rows with one key as one row, their texts joined."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, Literal

from msgspec import Struct

from trt_dp.workflow.contract import Type
from trt_dp.workflow.data.rows import Row, key_of
from trt_dp.workflow.nodes.utility import together


class Params(Struct, frozen=True, kw_only=True):
    """What this node has of its own."""

    concat_attribute: str
    separator: str = " "
    sort_by_attribute: str | None = None
    metadata_merge_strategy: Literal["first", "last", "most_common"] = "first"


def concatenate(rows: list[Row], key: str, params: Params) -> list[Row]:
    """One row for each key, in the order in which the keys first come."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(key_of(row, key), []).append(row)
    return [_joined(group, name, key, params) for name, group in groups.items()]


def _joined(group: list[Row], name: str, key: str, params: Params) -> Row:
    if params.sort_by_attribute is not None:
        group = sorted(group, key=lambda row: _rank(row.get(params.sort_by_attribute or "")))
    texts = [str(row[params.concat_attribute]) for row in group if _has_text(row, params)]
    merged = _merged(group, params)
    return {
        **merged,
        key: name,
        params.concat_attribute: params.separator.join(texts),
        "row_count": len(group),
    }


def _has_text(row: Row, params: Params) -> bool:
    return row.get(params.concat_attribute) is not None


def _merged(group: list[Row], params: Params) -> Row:
    """The other columns."""
    if params.metadata_merge_strategy != "most_common":
        return group[0 if params.metadata_merge_strategy == "first" else -1]
    names = dict.fromkeys(name for row in group for name in row)
    return {name: _most_common([row[name] for row in group if name in row]) for name in names}


def _most_common(values: list[Any]) -> Any:
    """The value that comes most often, the first of several."""
    texts = [json.dumps(value, sort_keys=True) for value in values]
    return values[texts.index(Counter(texts).most_common(1)[0][0])]


def _rank(value: Any) -> tuple[int, float, str]:
    """Numbers by size, then texts, then what is missing."""
    if isinstance(value, int | float):
        return (0, value, "")
    return (2, 0, "") if value is None else (1, 0, str(value))


TYPE = Type(
    params=Params,
    make=together(concatenate),
    attribute=lambda params: params.concat_attribute,
    repeats="handles",
)
