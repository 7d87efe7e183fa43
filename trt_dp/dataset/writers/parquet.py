"""Parquet by pyarrow: input columns and answer columns, a row group at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

import msgspec
import numpy as np

from trt_dp.dataset.writers import columns
from trt_dp.dataset.writers.contract import Answers
from trt_dp.dataset.writers.jsonl import listed
from trt_dp.errors import UsageError
from trt_dp.system.extras import pip_install

_IDS = ("input_ids", "output_ids")
_GROUP_ROWS = 8192
_INT64 = range(-(2**63), 2**63)


class Parquet:
    """Parquet files whose columns have one type each; cells of mixed or nested types are JSON."""

    name = "answers.parquet"
    errors = None
    needs_text = False

    def write(self, answers: Answers, out: BinaryIO, errors: BinaryIO | None) -> None:
        """Write all requests; the types are known after a first pass."""
        del errors
        try:
            from trt_dp.dataset.writers import arrow
        except ImportError as error:
            msg = f"Parquet needs pyarrow: {pip_install('parquet')}"
            raise UsageError(msg) from error
        arrow.write(_batches(answers, kinds := _kinds(answers)), kinds, out)


def _kinds(answers: Answers) -> dict[str, str]:
    """What each column holds, in the order of the table."""
    found: dict[str, str] = {}
    for answered in answers:
        for name, value in columns.row_of(answered).items():
            kind = _kind(name, value)
            found[name] = kind if found.get(name, kind) == kind else _both(found[name], kind)
    return {name: found[name] for name in columns.arranged(found)}


def _kind(name: str, value: Any) -> str:
    if name in _IDS:
        return "ids"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if value in _INT64 else "json"
    if isinstance(value, float):
        return "float"
    if isinstance(value, list) and name == "logprobs":
        return "floats"
    return "text" if isinstance(value, str) else "json"


def _both(one: str, other: str) -> str:
    return "float" if {one, other} == {"int", "float"} else "json"


def _batches(answers: Answers, kinds: dict[str, str]) -> Iterator[dict[str, list[Any]]]:
    """The cells of each column, a part of the rows at a time."""
    for batch in answers.batches():
        for first in range(0, len(batch), _GROUP_ROWS):
            rows = [columns.row_of(answered) for answered in batch[first : first + _GROUP_ROWS]]
            yield {
                name: [_cell(kind, row.get(name)) for row in rows] for name, kind in kinds.items()
            }


def _cell(kind: str, value: Any) -> Any:
    if value is None or kind not in ("json", "ids"):
        return value
    if kind == "ids":
        return np.asarray(value, np.int32)
    return msgspec.json.encode(value, enc_hook=listed).decode()
