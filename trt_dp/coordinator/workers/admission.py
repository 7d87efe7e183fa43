"""Lets workers connect: processes that know this run's key, and then say which worker they are."""

from __future__ import annotations

import secrets
import time
from typing import Literal

from trt_dp.errors import ChannelClosed
from trt_dp.wire.channel import MAX_MESSAGE, Channel
from trt_dp.wire.door import Door
from trt_dp.wire.environment import ADDRESS, KEY, LAUNCH, WORKER
from trt_dp.wire.handshake import HANDSHAKE_SECONDS
from trt_dp.wire.messages import Hello, ToCoordinator

Arrival = tuple[Hello, Channel[ToCoordinator]]


class Admission:
    """The door, and the processes that shook hands there but have not said yet which worker they are."""

    def __init__(self, host: str) -> None:
        self._key = secrets.token_bytes(32)
        self.door = Door(host, self._key)
        self._strangers: list[tuple[Channel[ToCoordinator], float]] = []

    @property
    def busy(self) -> bool:
        """Whether a process is connecting."""
        return bool(self._strangers) or self.door.busy

    def invitation(self, worker: int, launch: int) -> dict[str, str]:
        """The environment in which a worker finds the door."""
        return {
            ADDRESS: self.door.address,
            KEY: self._key.hex(),
            WORKER: str(worker),
            LAUNCH: str(launch),
        }

    def arrivals(self) -> list[Arrival]:
        """The processes that have said which worker they are; one that does not say so in time is disconnected."""
        deadline = time.monotonic() + HANDSHAKE_SECONDS
        self._strangers += [(channel, deadline) for channel in self.door.admit()]
        strangers, self._strangers = self._strangers, []
        arrived: list[Arrival] = []
        for channel, until in strangers:
            hello = _first_word(channel)
            if isinstance(hello, Hello):
                channel.limit = MAX_MESSAGE
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


def _first_word(channel: Channel[ToCoordinator]) -> ToCoordinator | Literal[False] | None:
    """The first message, None if there is none yet, False if there will be none."""
    try:
        messages = channel.receive()
    except ChannelClosed:
        return False
    return messages[0] if messages else None
