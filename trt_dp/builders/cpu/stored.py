"""Weights in an engine as their file has them: codes, scales and offsets of GGUF's groups, and plain types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_dp.builders.cpu.checkpoint import Floats, Tensor
from trt_dp.builders.cpu.gguf import groups
from trt_dp.builders.cpu.refuse import refuse
from trt_dp.builders.cpu.weights import Blob, Coding, check_finite, packed

PRECISION = "stored"
_PLAIN = {"F32": "f32", "F16": "f16", "BF16": "bf16"}
_LIMITS = {"i4": (-8, 7), "u4": (0, 15), "i8": (-128, 127), "u8": (0, 255)}


def plan(tensors: Mapping[str, Tensor]) -> dict[str, Coding]:
    """How each tensor is stored; raises UsageError for a type that the engine cannot hold as it is."""
    return {name: _coding(tensor) for name, tensor in tensors.items()}


def _coding(tensor: Tensor) -> Coding:
    name, kind = tensor.name, tensor.dtype
    if len(tensor.shape) == 1:
        return Coding(Blob(name, "f32", tensor.shape))
    if kind in _PLAIN:
        return Coding(Blob(name, _PLAIN[kind], tensor.shape))
    if kind not in groups.KNOWN:
        refuse(
            f"tensor {name} is {kind}, which no engine holds as it is", "build it as f32 or int8"
        )
    group = groups.KNOWN[kind]
    shape = (tensor.shape[0], tensor.shape[1] // group.values)
    scale = Blob(f"{name}/scale", "f32", (*shape, 1))
    zero = Blob(f"{name}/zero", "f32", (*shape, 1)) if group.code.startswith("u") else None
    values = Blob(name, group.code, (*shape, group.values))
    return Coding(values=values, scales=scale, zeros=zero, kept=kind)


def encode(coding: Coding, raw: memoryview, rows: Floats) -> tuple[NDArray[Any], ...]:
    """The codes of some rows of a quantised tensor, their scales, and zeros where its type has them."""
    name, code = coding.values.name, coding.values.type
    check_finite(name, rows)
    scales, offsets = groups.scales(coding.kept, np.frombuffer(raw, np.uint8))
    scales = np.where(scales == 0, np.float32(1), scales).reshape(-1, 1)
    starts = np.float32(0) if offsets is None else offsets.reshape(-1, 1)
    codes = np.rint((rows.reshape(len(scales), -1) - starts) / scales).clip(*_LIMITS[code])
    values = codes.astype(np.int8 if code.startswith("i") else np.uint8)
    blobs = (packed(values) if code.endswith("4") else values, scales)
    return blobs if offsets is None else (*blobs, -starts / scales)
