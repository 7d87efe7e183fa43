"""The processes that TensorRT-LLM starts for the GPUs of an engine: whether they can start, and whether they live.

Neither TensorRT-LLM nor Open MPI tells the process that started them when one dies: it would wait for ever.
Its constructor keeps Python from running, so while an engine loads another process watches (rank_watch.py).
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from trt_dp.engines.trtllm import shared_libraries
from trt_dp.engines.trtllm.rank_watch import PROGRAM, ranks_of
from trt_dp.errors import EngineRefused
from trt_dp.system import open_mpi, safe_files

_EVERY_SECONDS = 1.0
_REFUSES_SPAWN = 5  # the first major version of Open MPI whose runtime does


class LiveRanks:
    """The ranks of a loaded engine; none where it has one GPU, or where a launcher has started them."""

    def __init__(self) -> None:
        self._pids = ranks_of(os.getpid())
        self._looked = time.monotonic()

    def check(self) -> None:
        """Raises RuntimeError once one of them is dead; looks now and then only."""
        now = time.monotonic()
        if not self._pids or now - self._looked < _EVERY_SECONDS:
            return
        self._looked = now
        dead = self._pids - ranks_of(os.getpid())
        if dead:
            listed = ", ".join(map(str, sorted(dead)))
            msg = f"{PROGRAM} {listed} died: one of the engine's {len(self._pids)} processes, one for each GPU"
            raise RuntimeError(msg)


def check_can_start(executable: Path, world_size: int) -> None:
    """Raises EngineRefused for what would make their start fail or never return."""
    major, version = open_mpi.loaded_version()
    if major >= _REFUSES_SPAWN:
        msg = (
            f"Open MPI {version} cannot start the processes of an engine for {world_size} GPUs, since it rejects "
            "a setting that TensorRT-LLM passes: add --launcher mpi, or use Open MPI 4.1"
        )
        raise EngineRefused(msg)
    if not executable.is_file():
        msg = f"TensorRT-LLM is incomplete, {executable} is missing: install it again, or add --launcher mpi"
        raise EngineRefused(msg)
    lost = shared_libraries.missing(executable)
    if lost:
        msg = (
            f"{executable}, which TensorRT-LLM starts for each GPU, does not find {', '.join(lost)}: "
            "put the folder of each on LD_LIBRARY_PATH, or add --launcher mpi"
        )
        raise EngineRefused(msg)


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """While this lasts, a rank that dies or never starts ends this process instead of letting it wait for ever."""
    command = safe_files.python("trt_dp.engines.trtllm.rank_watch", str(os.getpid()))
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as watch:
        try:
            if watch.stdout:
                watch.stdout.readline()  # it watches from now on
            yield
        finally:
            watch.kill()
