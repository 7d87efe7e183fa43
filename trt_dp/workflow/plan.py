"""A workflow in words: its nodes in order, what each reads and writes, its workers and its command."""

from __future__ import annotations

from collections.abc import Sequence

from trt_dp.doctor.examine import why_not
from trt_dp.workflow.contract import Work
from trt_dp.workflow.nodes import TYPES


def plan(works: Sequence[Work]) -> list[str]:
    """The lines of --dry-run."""
    lines = []
    for number, work in enumerate(works, start=1):
        lines.append(f"[{number}/{len(works)}] {work.node.type} '{work.node.id}'")
        details = [f"reads {_reads(work)}", f"writes {work.output.path}"]
        details += TYPES[work.node.type].describe(work)
        lines += [f"      {detail}" for detail in details]
    return lines


def obstacles(works: Sequence[Work]) -> list[str]:
    """What keeps the engines of these nodes from running here; each is asked in a process of its own."""
    needed = (TYPES[work.node.type].engine(work) for work in works)
    asked = {name: why_not(name) for name in dict.fromkeys(needed) if name}
    return [f"the engine {name} cannot run here: {why}" for name, why in asked.items() if why]


def _reads(work: Work) -> str:
    if work.sources:
        several = work.node.type == "combine_intermediate_outputs"
        names = work.node.dependencies if several else work.node.dependencies[:1]
        return ", ".join(str(work.sources[name].path) for name in names)
    return str(work.input) if work.common.input_data_path else "input_json_data"
