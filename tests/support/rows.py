"""A row read as an index reads it and as a worker reads it, in short words for tests."""

from __future__ import annotations

from typing import NamedTuple

from trt_dp.dataset import json_row
from trt_dp.dataset.fields import Fields, kind_of
from trt_dp.dataset.piece import Gathering
from trt_dp.dataset.store import record
from trt_dp.types import PromptKind


class Measured(NamedTuple):
    """What an index keeps of a row."""

    kind: PromptKind
    input_tokens: int
    output_tokens: int


def measure(line: bytes) -> Measured:
    """What an index keeps of this line; raises BadLine."""
    fields = json_row.from_json(line)
    ids = 0 if fields.input_ids is None else len(fields.input_ids)
    return Measured(kind_of(fields), ids, fields.exact_tokens or fields.max_tokens or 0)


def through_store(fields: Fields) -> Fields:
    """The same row, written into a store and read again."""
    found = Gathering()
    found.add(fields)
    ids = 0 if fields.input_ids is None else len(fields.input_ids)
    return record(bytes(found.content), ids)


class Read(NamedTuple):
    """A row as a worker reads it."""

    index: int
    task_id: int | str
    input_ids: object
    output_tokens: int


def parse(index: int, line: bytes, input_tokens: int) -> Read:
    """The row that was written into a store from this line, with its place as its id if it has none."""
    fields = through_store(json_row.from_json(line))
    assert fields.input_ids is None or len(fields.input_ids) == input_tokens
    name = index if fields.task_id is None else fields.task_id
    return Read(index, name, fields.input_ids, fields.exact_tokens or fields.max_tokens or 0)


def task_id_of(index: int, line: bytes) -> int | str:
    """What a failure of this line is named."""
    found = json_row.task_id(line)
    return index if found is None else found
