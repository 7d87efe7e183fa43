"""The rows that a node reads: those of its first dependency, or of a file."""

from __future__ import annotations

from trt_dp.workflow.checks import refuse
from trt_dp.workflow.contract import Work
from trt_dp.workflow.data import rows as data
from trt_dp.workflow.data.rows import Row


def read_input(work: Work) -> list[Row]:
    """The rows; of several with one key the last, unless the node takes all. What is left out is said."""
    found = data.read(work.input, work.output.key)
    if found.skipped:
        skipped = f"skipped rows of {work.input.name}: {len(found.skipped):,}"
        work.doubt(f"{skipped} ({data.in_short(found.skipped)})")
    if work.output.repeats:
        return found.rows
    rows = data.last_of_each(found.rows, work.output.key)
    if repeated := len(found.rows) - len(rows):
        work.doubt(data.repeating(repeated))
    return rows


def read_output(work: Work) -> list[Row]:
    """The rows that an earlier run of a node left, for `resume`; none with --fresh."""
    if not work.common.resume or work.scope.wishes.fresh or not work.output.path.is_file():
        return []
    found = data.read(work.output.path, work.output.key)
    if found.skipped:
        dropped = f"dropped lines of {work.output.path.name}: {len(found.skipped):,}"
        work.doubt(f"{dropped} ({data.in_short(found.skipped)})")
    return found.rows


def check_input(work: Work) -> None:
    """Raises UsageError where a node has nothing to read."""
    if work.sources:
        return
    if work.common.input_data_path is None:
        refuse(work.node.place, "it reads nothing: give it a dependency or params.input_data_path")
    if work.common.primary_key is None:
        refuse(f"{work.place}.primary_key", "it is missing: a node without dependencies needs it")
    if not work.input.is_file():
        refuse(f"{work.place}.input_data_path", f"there is no file {work.input}")
