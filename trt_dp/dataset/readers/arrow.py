"""Tables of Parquet and Arrow files by pyarrow, batch by batch: ids are never parsed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trt_dp.dataset import tables
from trt_dp.dataset.fields import MAX_COUNT, Fields
from trt_dp.dataset.inputs import Opened, seekable
from trt_dp.dataset.readers.contract import Bad, Block, Options, Row
from trt_dp.dataset.token_ids import MAX_ID
from trt_dp.errors import BadLine, DatasetError

_ROWS = 1024
_MOST_BYTES = 256 << 20  # of a row group that one process reads as a whole
_UNUSABLE = (OSError, ValueError, TypeError, NotImplementedError, MemoryError)
_STREAM = b"\xff\xff\xff\xff"
_NO_IDS = np.empty(0, np.int32)
_ONE = np.zeros(1, np.int32)

Batches = Callable[[BinaryIO], Iterator[pa.RecordBatch]]


def parquet(file: BinaryIO) -> Iterator[pa.RecordBatch]:
    """The batches of a Parquet file; none spans two row groups, which would copy both."""
    with pq.ParquetFile(file) as table:
        for number in range(table.num_row_groups):
            yield from table.iter_batches(_ROWS, row_groups=[number])


def groups(opened: Opened, options: Options) -> int:
    """How many row groups a Parquet file has, if none of them is large; says which columns are used."""
    try:
        with pq.ParquetFile(opened.path) as table:
            count, names = table.num_row_groups, table.schema_arrow.names
            sizes = [table.metadata.row_group(number).total_byte_size for number in range(count)]
    except (pa.ArrowException, *_UNUSABLE):
        return 0  # `rows` says what is wrong
    if count < 2 or max(sizes) > _MOST_BYTES:
        return 0
    tables.columns(opened.name, names, options)
    return int(count)


def group(number: int) -> Batches:
    """The batches of one row group."""

    def batches(file: BinaryIO) -> Iterator[pa.RecordBatch]:
        with pq.ParquetFile(file) as table:
            yield from table.iter_batches(_ROWS, row_groups=[number])

    return batches


def arrow(file: BinaryIO) -> Iterator[pa.RecordBatch]:
    """The batches of an Arrow file or stream; Feather is one."""
    head = file.read(8)
    file.seek(0)
    if head.startswith(b"ARROW1"):
        table = pa.ipc.open_file(file)
        found = (table.get_batch(number) for number in range(table.num_record_batches))
    else:
        found = iter(pa.ipc.open_stream(file))
    for batch in found:
        for first in range(0, batch.num_rows, _ROWS):
            yield batch.slice(first, _ROWS)


def rows(opened: Opened, batches: Batches, options: Options) -> Iterator[Row]:
    """The rows in order; raises DatasetError where the file is damaged."""
    columns = None
    try:
        with seekable(opened) as file:
            for batch in batches(file):
                batch.validate(full=True)  # a damaged file may say that its values lie anywhere
                if columns is None:
                    columns = tables.columns(opened.name, batch.schema.names, options)
                if batch.num_rows:
                    yield _block(batch, columns)
    except (pa.ArrowException, *_UNUSABLE) as error:
        if isinstance(error, DatasetError):
            raise
        msg = f"cannot read {opened.name}: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        raise DatasetError(msg) from error


def _block(batch: pa.RecordBatch, columns: tables.Columns) -> Block:
    """A batch whose ids stay arrays; everything else is small and goes row by row."""
    column = next((name for name, role in columns.known.items() if role == "input_ids"), None)
    values = batch if column is None else batch.drop_columns([column])
    cells = values.to_pylist() if values.num_columns else [{} for _ in range(batch.num_rows)]
    if column is None:
        return Block([_row(row, columns, None) for row in cells], _NO_IDS, [0] * len(cells))
    ids, lengths, wrong = _ids(batch.column(column))
    if not wrong and (plain := _plain(values, columns)) is not None:
        return Block(plain, ids, lengths)
    found = [
        _bad(wrong[number], row, columns) if number in wrong else _row(row, columns, column)
        for number, row in enumerate(cells)
    ]
    return Block(found, ids, lengths)


def _plain(values: pa.RecordBatch, columns: tables.Columns) -> list[Fields | Bad] | None:
    """The rows of a table that has no more than names and lengths, which is much faster; None for any other."""
    roles = {columns.known.get(name): values.column(name) for name in values.schema.names}
    if not roles.keys() <= {"task_id", "output_tokens"}:
        return None
    named, length = roles.get("task_id"), roles.get("output_tokens")
    if named is not None and not (
        pa.types.is_integer(named.type) or pa.types.is_string(named.type)
    ):
        return None
    if length is not None and not (pa.types.is_integer(length.type) and _are_counts(length)):
        return None
    nothing = [None] * values.num_rows
    pairs = zip(
        nothing if named is None else named.to_pylist(),
        nothing if length is None else length.to_pylist(),
        strict=True,
    )
    return [Fields(task_id=name, exact_tokens=count) for name, count in pairs]


def _are_counts(column: pa.Array) -> bool:
    least, most = pc.min_max(column).as_py().values()
    return bool(column.null_count == 0 and least >= 1 and most <= MAX_COUNT)


def _row(row: dict[str, Any], columns: tables.Columns, ids: str | None) -> Fields | Bad:
    """A row without its ids: one id stands in for them while it is checked."""
    if ids is not None:
        row[ids] = _ONE.tolist()
    known, more = columns.cells(row)
    for name in ("messages", "chat_template_kwargs"):
        if isinstance(known.get(name), str):
            known[name] = msgspec.Raw(known[name].encode())
    try:
        fields = tables.fields(known, more)
    except BadLine as reason:
        return _bad(str(reason), row, columns)
    return fields if ids is None else msgspec.structs.replace(fields, input_ids=None)


def _bad(reason: str, row: dict[str, Any], columns: tables.Columns) -> Bad:
    return tables.bad(reason, _id(row, columns), {name: row[name] for name in columns.more})


def _id(row: dict[str, Any], columns: tables.Columns) -> int | str | None:
    column = next((name for name, role in columns.known.items() if role == "task_id"), None)
    value = row.get(column) if column else None
    return value if isinstance(value, int | str) else None


def _ids(column: pa.Array) -> tuple[Any, list[int], dict[int, str]]:
    """All ids one after the other, how many each row has, and the rows whose ids are invalid."""
    kind = column.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) or not pa.types.is_integer(
        kind.value_type
    ):
        column = column.cast(pa.list_(pa.int64()))
    offsets = column.offsets.to_numpy()
    flat = column.values.slice(offsets[0], offsets[-1] - offsets[0])
    lengths = np.diff(offsets)
    wrong = {int(i): "`input_ids` is empty" for i in np.flatnonzero(lengths == 0)}
    wrong |= {
        int(i): "`input_ids` is null"
        for i in np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))
    }
    holes = flat.null_count
    ids = flat.fill_null(-1).to_numpy(zero_copy_only=False) if holes else flat.to_numpy()
    if len(ids) and (ids.min() < 0 or ids.max() > MAX_ID):
        outside = np.flatnonzero((ids < 0) | (ids > MAX_ID))
        rows_of = np.searchsorted(offsets - offsets[0], outside, side="right") - 1
        wrong |= {
            int(i): f"`input_ids` has an id that is null, negative or above {MAX_ID}"
            for i in rows_of
        }
    return ids.astype(np.int32), lengths.tolist(), wrong
