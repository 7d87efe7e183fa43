"""What a launcher is. One file here (or in any package) and one entry point in `trt_dp.launchers` add another.

There are two kinds. A Launcher starts the workers of this machine itself. A HostLauncher starts one agent on each
host of several; the agent says what its host has, and starts the workers there. Both are made anew for each run, with
the options of `--launcher-set` (`--hosts` is one of them) as the keyword-only parameters of their constructor.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from msgspec import Struct

from trt_dp.types import Placement
from trt_dp.wire.credentials import Credentials


class Process(Protocol):
    """A started worker, with whatever it starts itself: of this machine, or of a host that has an agent."""

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


class StarterEnded(Struct, frozen=True):
    """What started an agent (an ssh, an srun, an actor) has ended; `why` is for the user.

    `last`: nothing that this launcher started runs any more, so that no further host can join.
    """

    name: str
    why: str
    last: bool = False


@runtime_checkable
class HostLauncher(Protocol):
    """Starts `python -m trt_dp.agent` once on each host; it carries no data, and never waits."""

    @property
    def hosts(self) -> Sequence[str]:
        """The hosts that are asked for, by names or addresses to which this machine finds a way; empty if unknown."""

    def begin(self, door: Credentials) -> None:
        """Start the agents. They need the credentials: on standard input, in their environment or in a file."""

    def poll(self) -> Sequence[StarterEnded]:
        """Each starter that ended since the last call, whether its agent had joined or not; called often."""

    def close(self) -> None:
        """End the starters; called once, when the agents have been told to leave. Hang up and wait before killing."""
