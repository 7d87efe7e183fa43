"""Agents by Ray: a process of its own talks to the cluster, so that a run never loads or waits for Ray."""

from __future__ import annotations

import importlib.util
import socket
from collections.abc import Sequence

import msgspec

from trt_dp.errors import UsageError
from trt_dp.launchers import StarterEnded
from trt_dp.launchers.ray.wish import RayWish
from trt_dp.launchers.starters import Starter, end_all
from trt_dp.system import safe_files
from trt_dp.system.extras import pip_install
from trt_dp.wire.credentials import Credentials, line

_PROBE_SECONDS = 5.0
_LEAVE_SECONDS = 10.0  # the driver waits for agents, and Ray takes long to shut down
_DRIVER = "trt_dp.launchers.ray.driver"


class RayLauncher:
    """One placement group for each of `agents`, with `gpus` and `cores` of one node; the key goes through Ray.

    `address` is the head's, as in `ray start --address`. `seconds` is how long Ray may take to place the first agent.
    Agents run in the Python of Ray's nodes, which must have trt-dp.
    """

    packages = ("ray",)

    def __init__(
        self,
        *,
        address: str = "",
        agents: int = 1,
        gpus: int = 0,
        cores: int = 1,
        seconds: float = 60.0,
    ) -> None:
        if why := self.why_not():
            raise UsageError(why)
        host = _check(address, agents, gpus, cores)
        self.hosts: Sequence[str] = [host] * agents
        self._wish = RayWish(
            address=address, agents=agents, gpus=gpus, cores=cores, seconds=seconds
        )
        self._driver: Starter | None = None

    @staticmethod
    def why_not() -> str | None:
        """What keeps it from being used here."""
        there = importlib.util.find_spec("ray")
        return None if there else f"the launcher ray needs Ray: {pip_install('ray')}"

    def begin(self, door: Credentials) -> None:
        """Start the process that asks Ray."""
        told = msgspec.json.encode(self._wish) + b"\n" + line(door)
        self._driver = Starter(safe_files.python(_DRIVER), told=told)

    def poll(self) -> list[StarterEnded]:
        """The end of that process, once: all agents have left, or none could be placed."""
        if self._driver is None or self._driver.poll() is None:
            return []
        why = self._driver.last_words()
        self._driver.forget()
        self._driver = None
        return [StarterEnded(self.hosts[0], why, last=True)]

    def close(self) -> None:
        """Hang up: the process gives back what Ray has placed, and ends."""
        end_all([self._driver] if self._driver else [], _LEAVE_SECONDS)
        self._driver = None


def _check(address: str, agents: int, gpus: int, cores: int) -> str:
    """The host of the cluster's head; raises UsageError where nothing listens, which Ray would wait for."""
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal()):
        msg = "name the head of the Ray cluster: --launcher-set address=HOST:6379"
        raise UsageError(msg)
    if agents < 1 or gpus < 0 or cores < 1:
        msg = "the launcher ray needs at least one of agents and one of cores, and no negative number of gpus"
        raise UsageError(msg)
    try:
        socket.create_connection((host, int(port)), _PROBE_SECONDS).close()
    except (OSError, OverflowError) as error:
        msg = f"there is no Ray at {address} ({error}): start it with ray start --head"
        raise UsageError(msg) from error
    return host
