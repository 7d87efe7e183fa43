"""How long a connection stays open when the other machine, or the network between, is gone."""

from __future__ import annotations

import os
import socket
import sys
from typing import Protocol

from trt_dp.wire.tls import Socket

_IDLE, _INTERVAL, _COUNT = 3, 2, 3
SILENT_SECONDS = 10.0
ABSENT_SECONDS = (
    120.0  # a coordinator that is stopped for a moment, or sorts, keeps its hosts and their workers
)


class HasFileno(Protocol):
    """Anything that is a connection, by its descriptor."""

    def fileno(self) -> int:
        """The descriptor."""


def keep_alive(connection: Socket) -> None:
    """Ask an idle machine whether it is there: one that is gone is noticed in ten seconds, not in two hours."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _IDLE)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _INTERVAL)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _COUNT)


def give_up_silence(connection: HasFileno, seconds: float = SILENT_SECONDS) -> None:
    """Give up what the other machine has not confirmed after so long, where what is sent is read within that time.

    So a coordinator does not use it towards workers: one that is busy reads nothing for minutes.
    """
    if sys.platform != "linux":
        return
    with socket.socket(fileno=os.dup(connection.fileno())) as same:
        milliseconds = int(seconds * 1000)
        same.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
