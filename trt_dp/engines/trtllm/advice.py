"""What would go wrong with an engine or a checkpoint on this machine, found before a run, for `trt-dp doctor`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from trt_dp.engines import gpu_memory
from trt_dp.engines.about import Room
from trt_dp.engines.trtllm import ranks
from trt_dp.engines.trtllm.folder import check_version, read_engine
from trt_dp.engines.trtllm.library import engine_library
from trt_dp.errors import EngineRefused

_SEVERAL = 2  # GPUs of an engine whose folder is not known


def of_any_engine() -> list[str]:
    """What keeps an engine for several GPUs from being started here."""
    executable = engine_library().worker_executable
    return list(_refusals(lambda: ranks.check_can_start(executable, _SEVERAL)))


def of_engine(folder: Path, room: Room) -> list[str]:
    """What keeps this engine from being loaded here, as often as is asked for."""
    library, model = engine_library(), read_engine(str(folder))
    said = [
        *_refusals(lambda: check_version(model, library.version)),
        *of_memory(model.weights, room),
    ]
    if len(room.gpus) < model.world_size:
        said.append(
            f"{folder} was built for {model.world_size} GPUs, and there are {len(room.gpus)}"
        )
    if model.world_size > 1:
        said += _refusals(
            lambda: ranks.check_can_start(library.worker_executable, model.world_size)
        )
    return said


def of_memory(weights: int, room: Room) -> list[str]:
    """Whether so many engines fit into what is free on the fullest GPU; nothing where that is unknown."""
    free = gpu_memory.free(room.gpus)
    return list(_refusals(lambda: gpu_memory.check_fit(room.sharers, weights, free)))


def _refusals(check: Callable[[], None]) -> Iterator[str]:
    try:
        check()
    except EngineRefused as refused:
        yield str(refused)
