"""What a launcher is. One file here (or in any package) and one entry point in `trt_dp.launchers` add another."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from trt_dp.types import Placement


class Process(Protocol):
    """A started worker, with whatever it starts itself."""

    def poll(self) -> int | None:
        """The exit status (negative: the signal) once it has ended; never waits."""

    def kill(self) -> None:
        """End it and all its children now; may be called again, and after the end."""


class Launcher(Protocol):
    """Starts worker processes; it carries no data, and knows nothing of requests or sockets."""

    @property
    def host(self) -> str:
        """The address on which workers that it starts can reach the coordinator."""

    @property
    def killable(self) -> bool:
        """Whether `kill` ends a worker that is stuck."""

    def start(self, placement: Placement, environment: dict[str, str], log: Path) -> Process:
        """Run `python -m trt_dp.worker` with exactly this environment, on the placement's cores, writing to `log`."""

    def close(self) -> None:
        """Called once, when every worker has ended."""
