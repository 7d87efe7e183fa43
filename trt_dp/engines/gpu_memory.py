"""What engines that share a GPU may take of its memory. Only `free` asks the machine; the rest is arithmetic."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence

from trt_dp.errors import EngineRefused

RUNTIME_BYTES = 2 * 2**30  # a CUDA context and an engine's buffers, roughly; beside its weights
_ASK_SECONDS = 30
_MIB = 2**20
_GIB = 2**30


def fraction_for(fraction: float, sharers: int, weights: int, free_bytes: int | None) -> float:
    """The KV cache's part of what is free after loading, with this many engines still to load, this one included.

    First comes room for every engine's weights; what then is left is divided evenly. TensorRT-LLM applies the
    fraction after it has loaded the weights. Where the free memory is unknown, weights cannot be reserved.
    Raises EngineRefused when not even the weights fit.
    """
    if sharers == 1:
        return fraction
    if free_bytes is None:
        return fraction / sharers
    check_fit(sharers, weights, free_bytes)
    each = weights + RUNTIME_BYTES
    room = free_bytes - sharers * each
    return fraction * room / (sharers * (free_bytes - each))


def check_fit(sharers: int, weights: int, free_bytes: int | None) -> None:
    """Raises EngineRefused if so many engines do not fit into what is free; nothing where that is unknown."""
    each = weights + RUNTIME_BYTES
    if free_bytes is not None and free_bytes <= sharers * each:
        raise EngineRefused(_too_big(sharers, each, free_bytes))


def free(devices: Sequence[str]) -> int | None:
    """Free bytes on the fullest of these GPUs; None where nvidia-smi cannot say, as for MIG devices."""
    program = shutil.which("nvidia-smi")
    if program is None or not devices:
        return None
    query = ["--query-gpu=memory.free", "--format=csv,noheader,nounits", "-i", ",".join(devices)]
    try:
        said = subprocess.run(
            [program, *query], capture_output=True, text=True, timeout=_ASK_SECONDS, check=True
        ).stdout
        numbers = [int(line) for line in said.split()]
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return min(numbers) * _MIB if len(numbers) == len(devices) else None


def _too_big(sharers: int, each: int, free_bytes: int) -> str:
    free = f"the {free_bytes / _GIB:.1f} GiB that are free on this GPU"
    size = f"{each / _GIB:.1f} GiB (weights and buffers)"
    if sharers == 1:
        return (
            f"an engine of {size} does not fit in {free}: free it (nvidia-smi shows who uses it), "
            "or build the engine for more GPUs (--tp-size)"
        )
    return (
        f"{sharers} engines of {size} do not fit in {free}: "
        "use a smaller --workers-per-gpu, or free the GPU (nvidia-smi shows who uses it)"
    )
