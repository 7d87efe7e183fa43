"""The node sentence_split: a row for every few sentences of a text."""

from __future__ import annotations

import re
from typing import Annotated

from msgspec import Meta, Struct

from trt_dp.workflow.checks import refuse
from trt_dp.workflow.contract import Type, Work
from trt_dp.workflow.data.rows import Row
from trt_dp.workflow.nodes.regex_split import compiled
from trt_dp.workflow.nodes.utility import each, text_of

_Count = Annotated[int, Meta(ge=1)]


class Params(Struct, frozen=True, kw_only=True):
    """What this node has of its own."""

    sentences_per_split: _Count
    text_attribute: str = "text"
    sentence_endings: str = "[.!?]+"
    preserve_endings: bool = True
    min_sentences_per_split: _Count = 1


def check(work: Work) -> None:
    """Raises UsageError for an ending that is no expression, and for a least size that would drop text."""
    params: Params = work.params
    place = f"{work.place}.sentence_endings"
    if compiled(params.sentence_endings, place).fullmatch(""):
        refuse(
            place, f"{params.sentence_endings!r} matches empty text, which is between all letters"
        )
    if params.min_sentences_per_split > params.sentences_per_split:
        refuse(
            f"{work.place}.min_sentences_per_split",
            f"it is {params.min_sentences_per_split} and sentences_per_split {params.sentences_per_split}: "
            "every part but the last would be dropped",
        )


def sentences(text: str, params: Params) -> list[str]:
    """The sentences without the space around them, with what ends them or without."""
    pattern = re.compile(f"(?:{params.sentence_endings})")
    found, begin = [], 0
    for ending in pattern.finditer(text):
        until = ending.end() if params.preserve_endings else ending.start()
        if text[begin : ending.start()].strip():
            found.append(text[begin:until].strip())
        begin = ending.end()
    rest = text[begin:].strip()
    return [*found, rest] if rest else found


def split(row: Row, key: str, params: Params) -> list[Row]:
    """The row as one row for every few sentences; a text without any stays one row."""
    found = sentences(text_of(row, params.text_attribute), params)
    if not found:
        none = {"split_index": 0, "sentence_count": 0, "sentence_start_index": 0}
        return [{**row, key: f"{row[key]}_0", **none}]
    size = params.sentences_per_split
    parts = [found[first : first + size] for first in range(0, len(found), size)]
    return [
        {
            **row,
            key: f"{row[key]}_{number}",
            params.text_attribute: " ".join(part),
            "split_index": number,
            "sentence_count": len(part),
            "sentence_start_index": number * size,
        }
        for number, part in enumerate(parts)
    ]


TYPE = Type(
    params=Params,
    make=each(split),
    check=check,
    attribute=lambda params: params.text_attribute,
    repeats="passes",
)
