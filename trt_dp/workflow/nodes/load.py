"""The node load: rows from a file, or one object from the document, as JSON lines."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from trt_dp.workflow.checks import refuse
from trt_dp.workflow.contract import Made, Type, Work
from trt_dp.workflow.data import rows as data
from trt_dp.workflow.data.rows import Found, Row
from trt_dp.workflow.nodes.reading import read_output


class Params(Struct, frozen=True, kw_only=True):
    """What this node has of its own."""

    input_json_data: dict[str, Any] | None = None
    data_attributes: list[str] | None = None
    gc_mode: bool = False


def check(work: Work) -> None:
    """Raises UsageError unless it says where its rows come from, in one way, and what their key is."""
    if work.common.primary_key is None:
        refuse(f"{work.place}.primary_key", "it is missing: name the column that tells rows apart")
    has_path, has_object = work.common.input_data_path, work.params.input_json_data
    if (has_path is None) == (has_object is None):
        which = "both are" if has_path else "neither is"
        refuse(work.place, f"give input_data_path or input_json_data: {which} given")
    if work.node.dependencies:
        refuse(f"{work.node.place}.dependencies", "a load node has none: it reads a file")
    if has_path is not None and not work.input.is_file():
        refuse(f"{work.place}.input_data_path", f"there is no file {work.input}")


def make(work: Work) -> Made:
    """The rows; with `resume` those of an earlier run stay as they are, and new keys follow them."""
    found = _found(work)
    rows = [_kept(row, work) for row in found.rows]
    if found.skipped and not found.rows:
        refuse(
            work.place, f"no row can be used: {data.in_short(found.skipped)}; is primary_key right?"
        )
    if found.skipped:
        work.doubt(f"skipped rows: {len(found.skipped):,} ({data.in_short(found.skipped)})")
    if work.params.gc_mode:
        work.note("gc_mode has no effect: rows are read the same way in every mode")
    unique = rows if work.output.repeats else data.last_of_each(rows, work.output.key)
    if len(unique) < len(rows):
        work.doubt(data.repeating(len(rows) - len(unique)))
    earlier = read_output(work)
    done = {data.key_of(row, work.output.key) for row in earlier}
    new = [row for row in unique if data.key_of(row, work.output.key) not in done]
    return Made(rows=[*earlier, *new], new=len(new))


def _found(work: Work) -> Found:
    given = work.params.input_json_data
    if given is not None:
        return data.from_objects([("input_json_data", given)], work.output.key)
    return data.read(work.input, work.output.key)


def _kept(row: Row, work: Work) -> Row:
    """The key and the columns to keep; with such a list the key becomes text."""
    wanted = work.params.data_attributes
    if wanted is None:
        return row
    key = work.output.key
    return {key: str(row[key]), **{name: row[name] for name in wanted if name in row}} | {
        key: str(row[key])
    }


TYPE = Type(
    params=Params,
    make=make,
    check=check,
    attribute=lambda _: None,
    file_name="{}_output.jsonl",
    repeats="passes",
    resumes=True,
)
