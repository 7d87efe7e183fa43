"""The weights of a GGUF file as float32, block by block; the only file that loads the gguf library."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_dp.builders.cpu import checkpoint
from trt_dp.builders.cpu.checkpoint import Floats, Tensor
from trt_dp.builders.cpu.gguf.header import broken
from trt_dp.errors import UsageError

_PLAIN = ("F32", "F16", "BF16")
_BLOCK_VALUES = 1 << 20


def blocks(tensor: Tensor) -> Iterator[tuple[memoryview, Floats]]:
    """A tensor in pieces of whole rows, each as stored and as float32; whole heads where halves alternate."""
    if len(tensor.shape) == 1:
        yield from _vector(tensor)
        return
    rows, inputs = tensor.shape
    row_bytes, step = tensor.size // rows, _step(tensor)
    with tensor.file.open("rb", buffering=0) as file:
        file.seek(tensor.offset)
        for start in range(0, rows, step):
            count = min(step, rows - start)
            raw = np.fromfile(file, np.uint8, count * row_bytes)
            if len(raw) != count * row_bytes:
                broken(tensor.file, "it became shorter while it was read")
            values = _values(tensor.dtype, raw.reshape(count, row_bytes)).reshape(count, inputs)
            yield raw.data.cast("B"), _ordered(values, tensor.head_rows)


def _vector(tensor: Tensor) -> Iterator[tuple[memoryview, Floats]]:
    """A tensor of one dimension, which is one row of the file."""
    with tensor.file.open("rb", buffering=0) as file:
        file.seek(tensor.offset)
        raw = np.fromfile(file, np.uint8, tensor.size)
    if len(raw) != tensor.size:
        broken(tensor.file, "it became shorter while it was read")
    values = _values(tensor.dtype, raw.reshape(1, -1)).reshape(-1)
    yield raw.data.cast("B"), _ordered(values, tensor.head_rows)


def _step(tensor: Tensor) -> int:
    """An even count of rows, so that two int4 never straddle two blocks."""
    unit = tensor.head_rows or 2
    return max(unit, _BLOCK_VALUES // tensor.shape[1] // unit * unit)


def _ordered(values: Floats, head_rows: int) -> Floats:
    """Rows as Hugging Face orders them: the two halves of a head behind one another, not in turns."""
    if not head_rows:
        return values
    pairs = values.reshape(-1, head_rows // 2, 2, *values.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(values.shape)


def _values(kind: str, raw: NDArray[np.uint8]) -> Floats:
    if kind in _PLAIN:
        return checkpoint.widen(kind, raw)
    library = _library()
    found: Floats = library.dequantize(raw, getattr(library.GGMLQuantizationType, kind))
    return found


def _library() -> Any:
    try:
        return importlib.import_module("gguf")
    except ImportError as error:
        msg = (
            "quantised GGUF files need a library that is not installed: pip install 'trt-dp[gguf]'"
        )
        raise UsageError(msg) from error
