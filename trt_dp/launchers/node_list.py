"""Lists of nodes as Slurm writes them: `n[1-3,07],login`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product

from trt_dp.errors import UsageError

_PART = re.compile(r"[^,\[\]]*(?:\[[^\[\]]+\][^,\[\]]*)*")
_PIECE = re.compile(r"\[([^\[\]]+)\]|([^\[\]]+)")


def node_names(text: str) -> list[str]:
    """Each node's name, in the order of the list; raises UsageError for what is no such list."""
    names: list[str] = []
    at = 0
    while at < len(text):
        found = _PART.match(text, at)
        if not found or found.end() == at or text[found.end() : found.end() + 1] not in ("", ","):
            break
        names += _expanded(found[0])
        at = found.end() + 1
    if at != len(text) + 1:
        msg = f"SLURM_JOB_NODELIST is {text!r}, which is no list of nodes"
        raise UsageError(msg)
    return names


def _expanded(part: str) -> Iterator[str]:
    """All names that one part with brackets stands for."""
    pieces = [
        list(_numbers(numbers)) if numbers else [plain] for numbers, plain in _PIECE.findall(part)
    ]
    return ("".join(name) for name in product(*pieces))


def _numbers(text: str) -> Iterator[str]:
    """`1-3,07` as 1, 2, 3, 07; a number keeps the width of the range's first."""
    for one in text.split(","):
        first, _, last = one.partition("-")
        if not (first.isdecimal() and (last or first).isdecimal()):
            msg = f"SLURM_JOB_NODELIST has the range {one!r}, which is none"
            raise UsageError(msg)
        for number in range(int(first), int(last or first) + 1):
            yield f"{number:0{len(first)}}"
