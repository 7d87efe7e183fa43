"""The node deduplication: of rows with the same key and the same text in a column, one."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from trt_dp.workflow.contract import Type
from trt_dp.workflow.data.rows import Row, key_of
from trt_dp.workflow.nodes.utility import together


class Params(Struct, frozen=True, kw_only=True):
    """What this node has of its own."""

    dedup_attribute: str
    keep_strategy: Literal["first", "last"] = "first"
    case_sensitive: bool = True


def deduplicate(rows: list[Row], key: str, params: Params) -> list[Row]:
    """The rows that are kept, in their order."""
    kept: dict[tuple[str, str], int] = {}
    for place, row in enumerate(rows):
        same = (key_of(row, key), _as_text(row.get(params.dedup_attribute), params))
        if params.keep_strategy == "last" or same not in kept:
            kept[same] = place
    return [rows[place] for place in sorted(kept.values())]


def _as_text(value: Any, params: Params) -> str:
    """Values compare as text; a missing column is like an empty text."""
    text = "" if value is None else str(value)
    return text if params.case_sensitive else text.lower()


TYPE = Type(params=Params, make=together(deduplicate), attribute=lambda _: None, repeats="handles")
