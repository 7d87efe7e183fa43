"""Workers as processes of this machine."""

from __future__ import annotations

import sys
from pathlib import Path

from trt_dp.guarded import Guarded
from trt_dp.types import Placement

WORKER = (  # `-m` would look for modules in the current folder first, which may be a stranger's
    "import sys; sys.path[:] = [place for place in sys.path if place]\n"
    "from trt_dp.worker import main; sys.exit(main())"
)


class LocalLauncher:
    """Starts each worker under a guard, in a session of its own: it never inherits a terminal."""

    host = "127.0.0.1"
    killable = True

    def start(self, placement: Placement, environment: dict[str, str], log: Path) -> Guarded:
        """Start a worker on its cores; it never inherits another's environment."""
        command = [sys.executable, "-c", WORKER, "trt_dp.worker"]
        return Guarded(command, environment, placement.cores, log)

    def close(self) -> None:
        """Nothing to let go of: every guard has left with its worker."""
