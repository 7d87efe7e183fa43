"""Agents over ssh, with the user's own configuration: whatever `ssh HOST` does for the user, it does here."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import time
from collections.abc import Sequence

from trt_dp.errors import UsageError
from trt_dp.launchers import StarterEnded
from trt_dp.launchers.agent_command import agent_command
from trt_dp.launchers.host_names import host_names
from trt_dp.launchers.starters import Starter, end_all
from trt_dp.wire.credentials import Credentials, line

_OPTIONS = (
    *("-T", "-o", "BatchMode=yes"),  # nobody is there to answer questions
    *("-o", "ServerAliveInterval=3", "-o", "ServerAliveCountMax=3"),
)
_FIRST_PAUSE, _LONGEST_PAUSE = 2.0, 30.0
_GOOD_SECONDS = 60.0  # a connection that lasted so long was a good one
_ASK_SECONDS = 15
_NO_CONNECTION = 255
_IN_VAIN = (2, 126, 127)  # the agent refused, or there is no such Python
_REFUSED = ("Permission denied", "Could not resolve hostname", "Host key verification failed")


class SshLauncher:
    """One `ssh` for each host, which runs the agent there; the key of the run goes over its standard input only.

    `python` is the Python of the hosts that has trt-dp, if it is not at the same path as here; `ssh` is the command,
    with options if need be. A host whose connection ends is tried again, less and less often.
    """

    def __init__(self, *, hosts: str = "", python: str = "", ssh: str = "ssh") -> None:
        self._names = host_names(hosts)
        self._ssh = shlex.split(ssh)
        if not self._ssh or shutil.which(self._ssh[0]) is None:
            msg = f"the launcher ssh needs {ssh!r}, and it is not there: install an ssh client"
            raise UsageError(msg)
        self._agent = shlex.join(agent_command(python, "--stdin"))
        self._addresses: list[str] = []
        self._door: Credentials | None = None
        self._running: dict[str, Starter] = {}
        self._again: dict[str, float] = {}
        self._pauses: dict[str, float] = {}

    @staticmethod
    def why_not() -> str | None:
        """What keeps it from being used here."""
        return None if shutil.which("ssh") else "there is no ssh: install an ssh client"

    @property
    def hosts(self) -> Sequence[str]:
        """Where the user's configuration says that these hosts are."""
        if not self._addresses:
            self._addresses = [self._address_of(name) for name in self._names]
        return self._addresses

    def begin(self, door: Credentials) -> None:
        """Start an ssh for each host."""
        self._door = door
        for name in self._names:
            self._start(name)

    def poll(self) -> list[StarterEnded]:
        """The connections that ended since the last call; each is made again after a while."""
        ended = {name: one for name, one in self._running.items() if one.poll() is not None}
        for name, one in ended.items():
            del self._running[name]
            if time.monotonic() - one.began > _GOOD_SECONDS:
                self._pauses.pop(name, None)
            if not _in_vain(one):
                self._plan_another(name)
        last = not (self._running or self._again)
        told = [StarterEnded(name, _why(one), last) for name, one in ended.items()]
        for one in ended.values():
            one.forget()
        for name in [name for name, at in self._again.items() if time.monotonic() >= at]:
            self._start(name)
        return told

    def close(self) -> None:
        """Wait for the connections to end with their agents, then end them."""
        self._again.clear()
        end_all(list(self._running.values()))
        self._running.clear()

    def _start(self, name: str) -> None:
        self._again.pop(name, None)
        command = [*self._ssh, *_OPTIONS, "--", name, self._agent]
        if self._door:
            self._running[name] = Starter(command, told=line(self._door))

    def _plan_another(self, name: str) -> None:
        pause = self._pauses.get(name, _FIRST_PAUSE)
        self._pauses[name] = min(_LONGEST_PAUSE, 2 * pause)
        self._again[name] = time.monotonic() + pause

    def _address_of(self, name: str) -> str:
        """The host name that ssh would connect to."""
        try:
            said = subprocess.run(
                [*self._ssh, "-G", "--", name],
                capture_output=True,
                text=True,
                timeout=_ASK_SECONDS,
                check=True,
            ).stdout
        except (OSError, subprocess.SubprocessError):
            return name
        found = [
            text.partition(" ")[2] for text in said.splitlines() if text.startswith("hostname ")
        ]
        return found[0] if found else name


def _in_vain(ended: Starter) -> bool:
    """Whether it would end in the same way again."""
    said = ended.last_words()
    if ended.poll() == _NO_CONNECTION:
        return any(reason in said for reason in _REFUSED)
    return ended.poll() in _IN_VAIN


def _why(ended: Starter) -> str:
    """Why a connection ended, as far as it said so."""
    said = ended.last_words().removeprefix("trt-dp agent: ")
    return (
        f"no connection: {said}" if ended.poll() == _NO_CONNECTION else f"the agent ended: {said}"
    )
