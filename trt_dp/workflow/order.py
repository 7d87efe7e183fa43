"""In which order nodes run: after what they depend on, and by id where that leaves a choice."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter

from trt_dp.errors import UsageError
from trt_dp.workflow.document import Node


def in_order(nodes: Sequence[Node]) -> list[Node]:
    """The nodes in the order in which they run; raises UsageError where they wait for each other in a circle."""
    by_id = {node.id: node for node in nodes}
    sorter = TopologicalSorter({node.id: node.dependencies for node in nodes})
    try:
        sorter.prepare()
    except CycleError as error:
        raise UsageError(_circle(error.args[1], by_id)) from error
    ready: list[str] = []
    found: list[Node] = []
    while sorter.is_active():
        for name in sorter.get_ready():
            heapq.heappush(ready, name)
        name = heapq.heappop(ready)
        found.append(by_id[name])
        sorter.done(name)
    return found


def _circle(names: list[str], by_id: dict[str, Node]) -> str:
    """The circle as a sentence: graphlib names it from the one that is waited for to the one that waits."""
    first, *others = (repr(name) for name in reversed(names))
    waits = f"{first} waits for {', which waits for '.join(others)}"
    return f"{by_id[names[-1]].place}.dependencies: {waits}: remove one of these dependencies"
