"""How weights are stored in an engine folder: which precision each gets, and its bytes; pure numpy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from trt_dp.builders.cpu.checkpoint import Floats
from trt_dp.builders.cpu.refuse import refuse

PRECISIONS = ("f32", "f16", "bf16", "int8", "int4")

_GROUPS = (128, 64, 32)
_BITS = {"f32": 32, "f16": 16, "bf16": 16, "i8": 8, "u8": 8, "i4": 4, "u4": 4}
_ALWAYS_INT8 = ("model.embed_tokens.weight", "lm_head.weight")


class Blob(Struct, frozen=True):
    """One constant of the engine: a tensor's values, or the scales that go with them."""

    name: str
    type: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """In bytes; two int4 share one, and a last odd one has its own."""
        return (math.prod(self.shape) * _BITS[self.type] + 7) // 8


class Coding(Struct, frozen=True):
    """How one tensor is stored: (values - zeros) * scales, where there are any; they follow in this order."""

    values: Blob
    scales: Blob | None = None
    zeros: Blob | None = None
    kept: str = ""  # the file's type, where its codes are kept and not its values rounded anew

    @property
    def blobs(self) -> tuple[Blob, ...]:
        """What is stored, in order."""
        return (self.values, *(blob for blob in (self.scales, self.zeros) if blob is not None))


def plan(shapes: Mapping[str, tuple[int, ...]], precision: str) -> dict[str, Coding]:
    """How each tensor of a model is stored; raises UsageError for a precision that there is not, or not here."""
    if precision not in PRECISIONS:
        refuse(f"there is no precision {precision!r}", f"known: {', '.join(PRECISIONS)}, stored")
    codings = {name: _coding(name, shape, precision) for name, shape in shapes.items()}
    if precision == "int4" and all(coding.values.type != "i4" for coding in codings.values()):
        refuse(f"no weight has inputs in groups of {_GROUPS[-1]} for int4", "build it as int8")
    return codings


def _coding(name: str, shape: tuple[int, ...], precision: str) -> Coding:
    """How a tensor is stored under a precision: norms and biases are small, and stay f32."""
    if len(shape) == 1:
        return Coding(Blob(name, "f32", shape))
    if precision in {"f32", "f16", "bf16"}:
        return Coding(Blob(name, precision, shape))
    outputs, inputs = shape
    group = _group(name, inputs) if precision == "int4" else None
    if group is None:
        return Coding(Blob(name, "i8", shape), Blob(f"{name}/scale", "f32", (outputs, 1)))
    grouped = (outputs, inputs // group, group)
    scales = Blob(f"{name}/scale", "f32", (*grouped[:2], 1))
    return Coding(Blob(name, "i4", grouped), scales)


def _group(name: str, inputs: int) -> int | None:
    """How many int4 share a scale; None where they must be int8: sensitive ones, and odd dimensions."""
    if name in _ALWAYS_INT8:
        return None
    return next((group for group in _GROUPS if inputs % group == 0), None)


def encode(coding: Coding, rows: Floats) -> tuple[NDArray[Any], ...]:
    """The bytes of some rows of a tensor, one array for each blob; raises UsageError for what cannot be held."""
    name, kind = coding.values.name, coding.values.type
    check_finite(name, rows)
    if kind == "f32":
        return (rows,)
    if kind in {"f16", "bf16"}:
        return (_narrow(name, kind, rows),)
    values, scales = _quantise(rows, coding.values)
    return (packed(values) if kind == "i4" else values, scales)


def check_finite(name: str, rows: Floats) -> None:
    """Refuse a tensor that no model can be made of."""
    if not np.isfinite(rows).all():
        refuse(f"tensor {name} has values that are infinite or not numbers", "fix the checkpoint")


def _narrow(name: str, kind: str, rows: Floats) -> NDArray[np.uint16]:
    """The bits of the nearest values; what becomes infinite is refused."""
    narrow = _to_f16(rows) if kind == "f16" else _to_bf16(rows)
    infinity = 0x7C00 if kind == "f16" else 0x7F80
    if ((narrow & 0x7FFF) == infinity).any():
        most = float(np.abs(rows).max())
        refuse(f"tensor {name} has a value of {most:g}, too big for {kind}", "build it as f32")
    return narrow


def _to_f16(rows: Floats) -> NDArray[np.uint16]:
    with np.errstate(over="ignore"):
        return rows.astype(np.float16).view(np.uint16)


def _to_bf16(rows: Floats) -> NDArray[np.uint16]:
    """To the nearest, ties to even; what is finite cannot wrap around."""
    bits = rows.view(np.uint32)
    return np.asarray((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16, np.uint16)


def _quantise(rows: Floats, values: Blob) -> tuple[NDArray[np.int8], Floats]:
    """Symmetric: the greatest of each group becomes 127, or 7; a group of (nearly) nothing becomes zeros."""
    limit = 127 if values.type == "i8" else 7
    groups = rows.reshape(-1, *values.shape[1:])
    scales = np.abs(groups).max(axis=-1, keepdims=True) / np.float32(limit)
    scales = np.where(scales < np.finfo(np.float32).tiny, np.float32(1), scales)
    return np.rint(groups / scales).clip(-limit, limit).astype(np.int8), scales


def packed(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Two to a byte, the first in the low half; groups are even, so no value is left alone."""
    halves = values.reshape(-1, 2).view(np.uint8) & 0xF
    return np.asarray(halves[:, 0] | (halves[:, 1] << 4), np.uint8)
