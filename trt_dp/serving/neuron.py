"""NeuronCores, which no driver is asked for here: the user names them, and each server gets a range."""

from __future__ import annotations

import re

from trt_dp.errors import PlacementError
from trt_dp.placement.plan import Plan
from trt_dp.types import Placement

VISIBLE = "NEURON_RT_VISIBLE_CORES"
_RANGE = re.compile(r"(\d{1,4})-(\d{1,4})")


def plan(cores: str, servers: int | None, each: int | None) -> Plan:
    """Divide a range such as 0-63 into ranges in a row; without a number, into two."""
    first, last = _ends(cores)
    total = last - first + 1
    wanted = servers or (total // each if each else 2)
    size = each or total // wanted
    if min(wanted, size) < 1 or wanted * size > total:
        msg = f"{wanted} servers with {max(1, size)} NeuronCores each do not fit on {cores}, which is {total}"
        raise PlacementError(msg)
    idle = total - wanted * size
    placements = tuple(_placement(place, first + place * size, size) for place in range(wanted))
    return Plan(placements, (f"{idle} of {total} NeuronCores are not used",) if idle else ())


def _ends(cores: str) -> tuple[int, int]:
    found = _RANGE.fullmatch(cores)
    if not found or int(found[1]) > int(found[2]):
        msg = f"--neuron-cores {cores}: give the first and the last, such as 0-63"
        raise PlacementError(msg)
    return int(found[1]), int(found[2])


def _placement(place: int, first: int, size: int) -> Placement:
    last = first + size - 1
    visible = f"{first}-{last}" if size > 1 else str(first)
    devices = tuple(map(str, range(first, last + 1)))
    return Placement(place, devices=devices, environment={VISIBLE: visible})
