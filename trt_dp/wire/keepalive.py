"""How long a connection stays open when the other machine, or the network between, is gone."""

from __future__ import annotations

import socket
import sys

from trt_dp.wire.tls import Socket

_IDLE, _INTERVAL, _COUNT = 3, 2, 3
SILENT_SECONDS = 10.0


def keep_alive(connection: Socket) -> None:
    """Ask an idle machine whether it is there: one that is gone is noticed in ten seconds, not in two hours."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _IDLE)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _INTERVAL)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _COUNT)
