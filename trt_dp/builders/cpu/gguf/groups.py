"""What the groups of quantised blocks are made of: codes, scales, and offsets where a type has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from trt_dp.builders.cpu.checkpoint import Floats
from trt_dp.builders.cpu.gguf.blocks import load
from trt_dp.builders.cpu.gguf.header import BLOCKS

Raw = NDArray[np.uint8]


class Groups(Struct, frozen=True):
    """A type whose values are a code times the scale of its group, plus its offset."""

    values: int  # in a group
    code: str  # the engine's type that holds every code
    read: Callable[[Raw], tuple[Floats, Floats | None]]  # scales and offsets of whole blocks


def scales(kind: str, raw: Raw) -> tuple[Floats, Floats | None]:
    """Scales of all groups, and their offsets if the type has them."""
    return KNOWN[kind].read(raw.reshape(-1, BLOCKS[kind][1]))


def _half(raw: Raw, at: int) -> Floats:
    stored = np.ascontiguousarray(raw[:, at : at + 2]).view("<f2")
    return np.asarray(stored, np.float32)


def _plain(raw: Raw) -> tuple[Floats, None]:
    return _half(raw, 0), None


def _offset(raw: Raw) -> tuple[Floats, Floats]:
    return _half(raw, 0), _half(raw, 2)


def _k_offset(raw: Raw) -> tuple[Floats, Floats]:
    """Of Q4_K and Q5_K, whose small scales share twelve bytes."""
    library: Any = load().quants
    small, least = library.Q4_K.get_scale_min(raw[:, 4:16])
    one, other = (np.asarray(part, np.float32).reshape(len(raw), -1) for part in (small, least))
    return _half(raw, 0) * one, -(_half(raw, 2) * other)


def _k_plain(raw: Raw) -> tuple[Floats, None]:
    """Of Q6_K."""
    small = np.ascontiguousarray(raw[:, 192:208]).view(np.int8)
    return _half(raw, 208) * np.asarray(small, np.float32), None


KNOWN = {
    "Q4_0": Groups(values=32, code="i4", read=_plain),
    "Q4_1": Groups(values=32, code="u4", read=_offset),
    "Q5_0": Groups(values=32, code="i8", read=_plain),
    "Q5_1": Groups(values=32, code="u8", read=_offset),
    "Q8_0": Groups(values=32, code="i8", read=_plain),
    "Q4_K": Groups(values=32, code="u4", read=_k_offset),
    "Q5_K": Groups(values=32, code="u8", read=_k_offset),
    "Q6_K": Groups(values=16, code="i8", read=_k_plain),
}
