"""The weights of a GGUF file as float32, block by block; the only file that loads the gguf library."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_dp.builders.cpu import checkpoint
from trt_dp.builders.cpu.checkpoint import Floats, Tensor
from trt_dp.builders.cpu.gguf.header import broken
from trt_dp.errors import UsageError
from trt_dp.system.extras import pip_install

PLAIN = ("F32", "F16", "BF16")
_BLOCK_VALUES = 1 << 20


def blocks(tensor: Tensor) -> Iterator[tuple[memoryview, Floats]]:
    """A tensor in pieces of whole rows, each as stored and as float32, with rows in Hugging Face's order."""
    rows, row_bytes, step = tensor.shape[0], tensor.size // tensor.shape[0], _step(tensor)
    with tensor.file.open("rb", buffering=0) as file:
        file.seek(tensor.offset)
        for start in range(0, rows, step):
            count = min(step, rows - start)
            raw = np.fromfile(file, np.uint8, count * row_bytes)
            if len(raw) != count * row_bytes:
                broken(tensor.file, "it became shorter while it was read")
            raw = _ordered(raw.reshape(count, row_bytes), tensor.head_rows)
            yield raw.data.cast("B"), _values(tensor.dtype, raw).reshape(-1, *tensor.shape[1:])


def _step(tensor: Tensor) -> int:
    """An even count of rows, so that two int4 never straddle two blocks."""
    unit = tensor.head_rows or 2
    return max(unit, _BLOCK_VALUES // math.prod(tensor.shape[1:]) // unit * unit)


def _ordered(raw: NDArray[np.uint8], head_rows: int) -> NDArray[np.uint8]:
    """The two halves of each head behind one another; llama's files have a row of each in turn."""
    if not head_rows:
        return raw
    pairs = raw.reshape(-1, head_rows // 2, 2, raw.shape[1])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(raw.shape)


def _values(kind: str, raw: NDArray[np.uint8]) -> Floats:
    if kind in PLAIN:
        return checkpoint.widen(kind, raw)
    library = load()
    found: Floats = library.dequantize(raw, getattr(library.GGMLQuantizationType, kind))
    return found


def load() -> Any:
    """The gguf library."""
    try:
        return importlib.import_module("gguf")
    except ImportError as error:
        msg = f"quantised GGUF files need a library that is not installed: {pip_install('gguf')}"
        raise UsageError(msg) from error
