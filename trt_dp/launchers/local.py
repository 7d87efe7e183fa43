"""Workers as processes of this machine."""

from __future__ import annotations

from pathlib import Path

from trt_dp.system import open_mpi, safe_files
from trt_dp.system.guarded import Guarded
from trt_dp.types import Placement


class LocalLauncher:
    """Starts each worker under a guard, in a session of its own: it never inherits a terminal."""

    host = "127.0.0.1"
    killable = True

    def start(self, placement: Placement, environment: dict[str, str], log: Path) -> Guarded:
        """Start a worker on its cores; it never inherits another's environment.

        The scratch folder is made by whoever needs it, and removed by the guard.
        """
        scratch = open_mpi.scratch_path()
        environment = {**environment, open_mpi.SCRATCH: scratch}
        command = safe_files.python("trt_dp.worker")
        return Guarded(command, environment, placement.cores, log, scratch)

    def close(self) -> None:
        """There is nothing to free: every guard ends with its worker."""
