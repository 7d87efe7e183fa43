"""What would go wrong with a checkpoint on this machine, found before a run, for `trt-dp doctor`."""

from __future__ import annotations

from pathlib import Path

from trt_dp.engines import gpu_memory
from trt_dp.engines.about import Room
from trt_dp.engines.vllm.checkpoint import read_checkpoint, weight_bytes
from trt_dp.engines.vllm.library import library
from trt_dp.errors import EngineRefused


def of(folder: Path, room: Room) -> list[str]:
    """What keeps this checkpoint from being loaded here, as often as is asked for."""
    said: list[str] = []
    try:
        read_checkpoint(str(folder))
        gpu_memory.check_fit(room.sharers, weight_bytes(folder), gpu_memory.free(room.gpus))
        library()
    except EngineRefused as refused:
        said.append(str(refused))
    return said
