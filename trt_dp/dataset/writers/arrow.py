"""The one place where pyarrow writes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

_TYPES = {
    "ids": pa.list_(pa.int32()),
    "floats": pa.list_(pa.float64()),
    "bool": pa.bool_(),
    "int": pa.int64(),
    "float": pa.float64(),
    "text": pa.string(),
    "json": pa.string(),
}


def write(batches: Iterable[dict[str, list[Any]]], kinds: dict[str, str], out: BinaryIO) -> None:
    """Write columns of these kinds, a row group for each batch."""
    schema = pa.schema([pa.field(name, _TYPES[kind]) for name, kind in kinds.items()])
    with pq.ParquetWriter(out, schema) as table:
        for batch in batches:
            table.write_batch(pa.record_batch(batch, schema=schema))
