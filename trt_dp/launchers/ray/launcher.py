"""Agents by Ray: a process of its own talks to the cluster, so that a run never loads or waits for Ray."""

from __future__ import annotations

import importlib.util
import os
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
_OF_A_JOB = "RAY_ADDRESS"  # set by Ray inside a job


class RayLauncher:
    """One placement group for each of `agents`, with `gpus`, `cores` and `resources` of one node.

    `address` is the head's, as in `ray start --address`; inside a job of Ray, that job's. `seconds` is how long Ray may
    take to place the first agent. Agents run in the Python of Ray's nodes, which must have trt-dp.
    """

    packages = ("ray",)

    def __init__(  # noqa: PLR0913 - each is an option of --launcher-set
        self,
        *,
        address: str = "",
        agents: int = 1,
        gpus: float = 0,
        cores: float = 1,
        resources: str = "",
        seconds: float = 60.0,
    ) -> None:
        if why := self.why_not():
            raise UsageError(why)
        self._wish = RayWish(
            address=address or os.environ.get(_OF_A_JOB, ""),
            agents=agents, gpus=gpus, cores=cores, resources=_parse(resources), seconds=seconds,
        )  # fmt: skip
        _check(self._wish)
        self.divides_gpus = gpus < 1
        self.hosts: Sequence[str] = [_reach(self._wish.address)] * agents
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


def _parse(resources: str) -> dict[str, float]:
    """Resources as `ray start --resources` writes them; raises UsageError for anything else."""
    try:
        return msgspec.json.decode(resources or "{}", type=dict[str, float])
    except msgspec.DecodeError as error:
        msg = (
            f"""resources of --launcher-set are written as in resources='{{"rack": 1}}' ({error})"""
        )
        raise UsageError(msg) from error


def _check(wish: RayWish) -> None:
    """Raises UsageError for what Ray would refuse, or wait for."""
    if wish.agents < 1 or not wish.bundle or min(wish.bundle.values()) < 0:
        msg = "the launcher ray needs at least one agent, cores or other resources for each, and no negative number"
        raise UsageError(msg)
    if wish.gpus > 1 and wish.gpus % 1:
        msg = f"Ray divides one GPU, not several: gpus={wish.gpus:g} is neither below 1 nor whole"
        raise UsageError(msg)
    if own := {"CPU", "GPU"} & wish.resources.keys():
        msg = f"the launcher ray has cores and gpus for what resources call {min(own)}"
        raise UsageError(msg)


def _reach(address: str) -> str:
    """The host of the cluster's head; raises UsageError where nothing listens, which Ray would wait for."""
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal()):
        msg = "name the head of the Ray cluster: --launcher-set address=HOST:6379"
        raise UsageError(msg)
    try:
        socket.create_connection((host, int(port)), _PROBE_SECONDS).close()
    except (OSError, OverflowError) as error:
        msg = f"there is no Ray at {address} ({error}): start it with ray start --head"
        raise UsageError(msg) from error
    return host
