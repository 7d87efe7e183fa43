"""Where workers connect: accepts them, and admits those that prove that they know the run's key."""

from __future__ import annotations

import resource
import secrets
import socket
import time

from trt_dp.wire.channel import Channel
from trt_dp.wire.handshake import Knock
from trt_dp.wire.messages import ToCoordinator
from trt_dp.wire.tls import Lock, Socket

_MAX_PENDING = 1024  # the workers of many hosts connect at once
_AT_ONCE = 16
_FIRST_MESSAGE = 1 << 16  # a new worker sends only a Hello, an agent only what its host has


class Door:
    """A listening socket, and the connections whose handshake is under way; with a lock, they are encrypted."""

    def __init__(self, host: str, key: bytes, port: int = 0, lock: Lock | None = None) -> None:
        self._key = key
        self._lock = lock or Lock(None)
        self._listening = socket.create_server(
            (host, port), family=_family(host), backlog=_MAX_PENDING
        )
        self._listening.setblocking(False)  # noqa: FBT003 - the socket's own signature
        self._pending: list[Knock] = []
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._room = max(
            1, min(_MAX_PENDING, descriptors // 8)
        )  # the run itself needs the other descriptors

    @property
    def address(self) -> str:
        """What a worker connects to, as host:port."""
        host, port = self._listening.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def busy(self) -> bool:
        """Whether a handshake is under way: call `admit` again soon."""
        return bool(self._pending)

    def fileno(self) -> int:
        """The descriptor that becomes readable when a worker connects."""
        return self._listening.fileno()

    def admit(self) -> list[Channel[ToCoordinator]]:
        """Channels to the workers that proved that they know the key; never waits, and drops slow connections."""
        admitted = self._proved()  # first, or new connections could take their places
        self._accept()
        admitted += self._proved()
        return [Channel(connection, ToCoordinator, _FIRST_MESSAGE) for connection in admitted]

    def close(self) -> None:
        """Stop listening and drop every unfinished handshake."""
        self._listening.close()
        for knock in self._pending:
            knock.drop()
        self._pending.clear()

    def _proved(self) -> list[Socket]:
        now = time.monotonic()
        proved = [knock.connection for knock in self._pending if knock.proved(self._key)]
        for knock in self._pending:
            if not knock.done and now > knock.deadline:
                knock.drop()
        self._pending = [knock for knock in self._pending if not knock.done]
        return proved

    def _accept(self) -> None:
        try:
            for _ in range(_AT_ONCE):
                connection, _address = self._listening.accept()
                self._make_room(self._room - 1)
                self._greet(connection)
        except BlockingIOError:  # no (more) connections
            return
        except OSError:  # no descriptor is free now
            self._make_room(len(self._pending) - 1)

    def _greet(self, connection: socket.socket) -> None:
        try:
            self._pending.append(Knock(self._lock.around(connection)))
        except OSError:  # it left already
            connection.close()

    def _make_room(self, most: int) -> None:
        """Drop some at random, so that a flood of connections cannot push out a worker for certain."""
        while len(self._pending) > max(0, most):
            self._pending.pop(secrets.randbelow(len(self._pending))).drop()


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
