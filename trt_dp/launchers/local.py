"""Workers as processes of this machine."""

from __future__ import annotations

from pathlib import Path

from trt_dp.system import safe_files
from trt_dp.system.guarded import Guarded
from trt_dp.types import Placement


class LocalLauncher:
    """Starts each worker under a guard, in a session of its own: it never inherits a terminal."""

    host = "127.0.0.1"
    killable = True

    def start(self, placement: Placement, environment: dict[str, str], log: Path) -> Guarded:
        """Start a worker on its cores; it never inherits another's environment."""
        return Guarded(safe_files.python("trt_dp.worker"), environment, placement.cores, log)

    def close(self) -> None:
        """There is nothing to free: every guard ends with its worker."""
