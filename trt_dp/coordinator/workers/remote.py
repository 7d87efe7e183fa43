"""A worker on another host, and the agent that starts it there: a Process and a Launcher like those of this machine."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from trt_dp.coordinator.workers.connection import Connection
from trt_dp.errors import ChannelClosed
from trt_dp.types import Placement
from trt_dp.wire.messages import Ended, Host, Kill, Logged, Ping, Start, ToCoordinator, Welcome

_LOST_WITH_ITS_HOST = -9
_OURS = "TRT_DP_"
_QUIET = 5.0  # then the network is at fault, whatever the connection says at its end


class Remote:
    """A worker process of another host: running until its agent says that it ended, or until the host is lost."""

    def __init__(self, agent: Agent, key: tuple[int, int], log: Path) -> None:
        self._agent = agent
        self._key = key
        self._log = log
        self.status: int | None = None

    def poll(self) -> int | None:
        """The exit status once it has ended, by what is known here."""
        return self.status

    def kill(self) -> None:
        """Ask the agent to end it with all that it started."""
        if self.status is None:
            self._agent.tell(Kill(*self._key))

    def logged(self, text: bytes) -> None:
        """Keep what it logged beside the logs of other workers."""
        with contextlib.suppress(OSError), self._log.open("ab") as file:
            file.write(text)


class Agent:
    """A host that takes part, through its agent: connected, then lost with all its workers."""

    killable = True
    host = ""

    def __init__(self, said: Host, name: str) -> None:
        self.name = name
        self.said = said
        self.heard = time.monotonic()
        self.connection: Connection | None = None
        self.why_lost = ""
        self._workers: dict[tuple[int, int], Remote] = {}

    def welcome(self, connection: Connection, silent_seconds: float) -> None:
        """It takes part from now on."""
        self.connection = connection
        self.tell(Welcome(silent_seconds))

    def start(self, placement: Placement, environment: dict[str, str], log: Path) -> Remote:
        """Have a worker started; only what is the run's own travels, all else is the host's. Raises OSError if lost."""
        if self.connection is None:
            raise OSError(0, f"the host {self.name} is lost")
        mine = {
            name: value
            for name, value in environment.items()
            if name.startswith(_OURS) or name in placement.environment
        }
        key = (placement.worker, int(environment["TRT_DP_LAUNCH"]))
        remote = self._workers[key] = Remote(self, key, log)
        self.tell(Start(*key, mine, placement.cores))
        return remote

    def tell(self, message: Welcome | Start | Kill | Ping) -> None:
        """Send it; where that fails the host is lost."""
        if self.connection is None:
            return
        try:
            self.connection.send(message)
        except ChannelClosed as closed:
            self.lose(str(closed))

    def read(self, *, write: bool = False) -> None:
        """Take in what the agent says; where that fails the host is lost."""
        if self.connection is None:
            return
        try:
            if write:
                self.connection.flush()
            messages = self.connection.receive()
        except ChannelClosed as closed:
            self.lose(str(closed))
            return
        for message in messages:
            self._hear(message)
        if messages:
            self.heard = time.monotonic()

    def lose(self, why: str) -> None:
        """The host is lost, and every worker there."""
        if self.connection is None:
            return
        self.connection.close()
        self.connection = None
        quiet = time.monotonic() - self.heard
        self.why_lost = f"nothing was heard from it for {quiet:.0f} s" if quiet > _QUIET else why
        for remote in self._workers.values():
            remote.status = _LOST_WITH_ITS_HOST
        self._workers.clear()

    def close(self) -> None:
        """Let it leave."""
        self.lose("the run is over")

    def _hear(self, message: ToCoordinator) -> None:
        if isinstance(message, Logged | Ended):
            remote = self._workers.get((message.worker, message.launch))
            if remote is None:
                return
            if isinstance(message, Logged):
                remote.logged(message.text)
            else:
                remote.status = message.status
                del self._workers[message.worker, message.launch]
