"""The node combine_intermediate_outputs: what several nodes made of the same keys, side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct

from trt_dp.errors import UsageError
from trt_dp.workflow.checks import check_keys, need_object, refuse, struct
from trt_dp.workflow.contract import Made, Output, Type, Work
from trt_dp.workflow.data import formats
from trt_dp.workflow.data import rows as data
from trt_dp.workflow.data.rows import Row

Format = Literal["excel", "json", "parquet"]


class Params(Struct, frozen=True, kw_only=True):
    """What this node has of its own."""

    join_strategy: Literal["inner", "left", "outer"] = "inner"
    column_mapping: dict[str, str] = {}
    handle_conflicts: Literal["error", "prefix_source", "suffix_source"] = "error"
    retain_original_attributes: bool = False
    additional_output_formats: list[Format] = []
    output_format_options: dict[str, Any] = {}


class Table(Struct, frozen=True):
    """The rows of a dependency by their keys, its own column (None: all), and the name of that in the result."""

    source: str
    attribute: str | None
    column: str
    rows: dict[str, Row]


class _Shape(Struct, frozen=True, kw_only=True):
    """What all joined rows have: their key, the name of each dependency's column, or of all its columns, and a base."""

    key: str
    columns: Mapping[str, str]
    whole: Mapping[str, list[str]]
    base: Mapping[str, Row]


class ClashError(ValueError):
    """Two columns of the result would have one name; the text says which."""


def check(work: Work) -> dict[str, Any]:
    """The options of each further format; raises UsageError for what can be known before rows are there."""
    params: Params = work.params
    if len(work.sources) < 2:
        refuse(f"{work.node.place}.dependencies", "a combine node needs at least two")
    keys = {output.key for output in work.sources.values()}
    if len(keys) > 1:
        listed = ", ".join(f"{name} has {one.key!r}" for name, one in work.sources.items())
        refuse(f"{work.node.place}.dependencies", f"they must have the same primary key: {listed}")
    _check_mapping(work)
    options: dict[str, Any] = {}
    place = f"{work.place}.output_format_options"
    check_keys(params.output_format_options, formats.OPTIONS, place)
    for form in dict.fromkeys(params.additional_output_formats):
        formats.check_installed(form)
        given = need_object(params.output_format_options.get(form, {}), f"{place}.{form}")
        kind = formats.OPTIONS[form]
        check_keys(given, kind.__struct_fields__, f"{place}.{form}")
        options[form] = _options(given, kind, f"{place}.{form}")
    return options


def _options(given: dict[str, Any], kind: type[Struct], place: str) -> Struct:
    """Null is a value here: JSON without an indent, Parquet without compression."""
    if given.get("compression", "") is None:
        given = {**given, "compression": "none"}
    if "indent" in given and given["indent"] is None:
        return msgspec.structs.replace(struct(given, kind, place), indent=None)
    return struct(given, kind, place)


def _check_mapping(work: Work) -> None:
    mapping, place = work.params.column_mapping, f"{work.place}.column_mapping"
    check_keys(mapping, work.sources, place)
    if not mapping:
        return
    for name in work.sources:
        if not mapping.get(name):
            refuse(
                place, f"it names no column for {name!r}: name one for every dependency, or none"
            )
    counts = Counter(mapping.values())
    twice = [column for column, count in counts.items() if count > 1]
    if twice and work.params.handle_conflicts == "error":
        refuse(place, f"{twice[0]!r} is given twice: choose names, or another handle_conflicts")


def make(work: Work) -> Made:
    """The joined rows, in the order of the first dependency; further formats are written too."""
    tables = [_table(work, name, output) for name, output in work.sources.items()]
    try:
        rows = join(tables, work.output.key, work.params)
    except ClashError as clash:
        msg = f"{work.place}: {clash}"
        raise UsageError(msg) from clash
    joined = {data.key_of(row, work.output.key) for row in rows}
    for table in tables:
        if lost := len(table.rows.keys() - joined):
            work.note(f"rows of {table.source} that are left out: {lost:,} (others lack their key)")
    for form, options in work.prepared.items():
        path = formats.path_of(form, work.output.path)
        formats.write(form, path, rows, options)
        work.note(f"wrote {path}")
    return Made(rows=rows)


def _table(work: Work, name: str, output: Output) -> Table:
    found = data.read(output.path, output.key)
    by_key = {data.key_of(row, output.key): row for row in found.rows}
    if repeated := len(found.rows) - len(by_key):
        work.doubt(f"{name}: {data.repeating(repeated)}")
    column = work.params.column_mapping.get(name) or output.attribute or name
    return Table(source=name, attribute=output.attribute, column=column, rows=by_key)


def join(tables: Sequence[Table], key: str, params: Params) -> list[Row]:
    """One row for each key that the strategy asks for; raises ClashError."""
    shape = _Shape(
        key=key,
        columns=_columns(tables, key, params),
        whole={one.source: _names(one, key) for one in tables if one.attribute is None},
        base=tables[0].rows if params.retain_original_attributes else {},
    )
    return [_row(name, tables, shape) for name in _joined_keys(tables, params.join_strategy)]


def _joined_keys(tables: Sequence[Table], strategy: str) -> list[str]:
    first = list(tables[0].rows)
    if strategy == "left":
        return first
    if strategy == "inner":
        return [name for name in first if all(name in table.rows for table in tables)]
    return list(dict.fromkeys(name for table in tables for name in table.rows))


def _columns(tables: Sequence[Table], key: str, params: Params) -> dict[str, str]:
    """The name of each dependency's column in the result."""
    counts = Counter(table.column for table in tables if table.attribute is not None)
    taken = _taken(tables, key, params)
    found = {}
    for table in tables:
        clashes = counts[table.column] > 1 or table.column in taken - _own(table, params)
        if table.attribute is not None and clashes and params.handle_conflicts == "error":
            msg = (
                f"the column {table.column!r} of {table.source} is there already: name another in "
                "column_mapping, or set handle_conflicts to prefix_source or suffix_source"
            )
            raise ClashError(msg)
        found[table.source] = _renamed(table, params) if clashes else table.column
    return found


def _taken(tables: Sequence[Table], key: str, params: Params) -> set[str]:
    """Names that a column cannot have: with an explicit mapping, those of all rows; else of what is in the result."""
    explicit = bool(params.column_mapping) and params.handle_conflicts == "error"
    shown = tables if explicit else tables[:1] if params.retain_original_attributes else ()
    return {key, *(name for table in shown for row in table.rows.values() for name in row)}


def _own(table: Table, params: Params) -> set[str]:
    """Its own column may keep its name where that was not asked for in a mapping."""
    return set() if params.column_mapping or table.attribute is None else {table.attribute}


def _renamed(table: Table, params: Params) -> str:
    if params.handle_conflicts == "suffix_source":
        return f"{table.column}_{table.source}"
    return f"{table.source}_{table.column}"


def _names(table: Table, key: str) -> list[str]:
    """The columns of a dependency that has none of its own, without the key."""
    return list(dict.fromkeys(name for row in table.rows.values() for name in row if name != key))


def _row(name: str, tables: Sequence[Table], shape: _Shape) -> Row:
    row: Row = {shape.key: name, **shape.base.get(name, {})} | {shape.key: name}
    for table in tables:
        found = table.rows.get(name, {})
        if table.attribute is None:
            names = shape.whole[table.source]
            row.update({f"{table.source}_{one}": found.get(one) for one in names})
        else:
            row[shape.columns[table.source]] = found.get(table.attribute)
    return row


TYPE = Type(params=Params, make=make, check=check, attribute=lambda _: None)
