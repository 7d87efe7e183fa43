"""Lets workers and agents connect: processes that know this run's key, and then say who they are."""

from __future__ import annotations

import secrets
import time
from typing import Literal

from trt_dp.errors import ChannelClosed, UsageError
from trt_dp.wire.certificate import Certificate
from trt_dp.wire.channel import MAX_MESSAGE, Channel
from trt_dp.wire.credentials import Credentials, variables
from trt_dp.wire.door import Door
from trt_dp.wire.environment import LAUNCH, WORKER
from trt_dp.wire.handshake import HANDSHAKE_SECONDS
from trt_dp.wire.messages import Hello, Host, ToCoordinator
from trt_dp.wire.tls import Lock

_FROM_AGENTS = 1 << 20  # in bytes, of one message: a piece of a log

Arrival = tuple[Hello | Host, Channel[ToCoordinator]]


class Admission:
    """The door, and the processes that shook hands there but have not said yet who they are."""

    def __init__(self, host: str, port: int = 0, certificate: Certificate | None = None) -> None:
        key = secrets.token_bytes(32)
        self.door = _open_door(host, port, key, Lock(certificate))
        public = certificate.public if certificate else ""
        self.credentials = Credentials(self.door.address, key.hex(), public)
        self._strangers: list[tuple[Channel[ToCoordinator], float]] = []

    @property
    def busy(self) -> bool:
        """Whether a process is connecting."""
        return bool(self._strangers) or self.door.busy

    def invitation(self, worker: int, launch: int) -> dict[str, str]:
        """The environment in which a worker finds the door."""
        return {**variables(self.credentials), WORKER: str(worker), LAUNCH: str(launch)}

    def arrivals(self) -> list[Arrival]:
        """The processes that have said who they are; one that does not say so in time is disconnected."""
        deadline = time.monotonic() + HANDSHAKE_SECONDS
        self._strangers += [(channel, deadline) for channel in self.door.admit()]
        strangers, self._strangers = self._strangers, []
        arrived: list[Arrival] = []
        for channel, until in strangers:
            hello = _first_word(channel)
            if isinstance(hello, Hello | Host):
                channel.limit = MAX_MESSAGE if isinstance(hello, Hello) else _FROM_AGENTS
                arrived.append((hello, channel))
            elif hello is None and time.monotonic() < until:
                self._strangers.append((channel, until))
            else:
                channel.close()
        return arrived

    def close(self) -> None:
        """Close the door, and disconnect processes that are still connecting."""
        self.door.close()
        for channel, _ in self._strangers:
            channel.close()


def _open_door(host: str, port: int, key: bytes, lock: Lock) -> Door:
    try:
        return Door(host, key, port, lock)
    except OSError as error:
        where = f"{host} port {port}" if port else host
        msg = f"cannot listen on {where}: {error.strerror}. Name another --address or --port"
        raise UsageError(msg) from error


def _first_word(channel: Channel[ToCoordinator]) -> ToCoordinator | Literal[False] | None:
    """The first message, None if there is none yet, False if there will be none."""
    try:
        messages = channel.receive()
    except ChannelClosed:
        return False
    return messages[0] if messages else None
