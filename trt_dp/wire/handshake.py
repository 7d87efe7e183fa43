"""Both sides prove that they know the run's key before any message is read; between machines, in a TLS connection.

coordinator                         worker or agent
challenge (32 bytes)       ──►
◄──      nonce (32) + HMAC(key, "worker", challenge, nonce)
HMAC(key, "coordinator",   ──►
nonce, challenge)              now messages follow
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import socket
import time
from collections.abc import Callable
from typing import Any

from trt_dp.errors import ChannelClosed
from trt_dp.wire.channel import Channel
from trt_dp.wire.messages import ToWorker
from trt_dp.wire.tls import Encrypted, Socket, with_certificate

HANDSHAKE_SECONDS = 30.0  # a host that starts many processes at once is slow
_NONCE = 32
_REPLY = _NONCE + hashlib.sha256().digest_size


class Knock:
    """The coordinator's side of a handshake: waiting, then `done`, which is proved or dropped.

    The connection does not wait; an encrypted one has not agreed on keys yet.
    """

    def __init__(self, connection: Socket) -> None:
        self.connection = connection
        self.deadline = time.monotonic() + HANDSHAKE_SECONDS
        self.done = False
        self._greeted = False
        self._challenge = secrets.token_bytes(_NONCE)
        self._reply = b""
        self._try(self._greet)

    def proved(self, key: bytes) -> bool:
        """Read what has arrived; True once, when the whole reply is correct."""
        self._try(self._greet)
        if self._greeted:
            self._try(self._read)
        if self.done or len(self._reply) < _REPLY:
            return False
        nonce, proof = self._reply[:_NONCE], self._reply[_NONCE:]
        if not hmac.compare_digest(proof, _proof(key, b"worker", self._challenge, nonce)):
            self.drop()
            return False
        self._try(
            lambda: self.connection.sendall(_proof(key, b"coordinator", nonce, self._challenge))
        )
        proved, self.done = not self.done, True
        return proved

    def drop(self) -> None:
        """Close the connection."""
        self.done = True
        self.connection.close()

    def _greet(self) -> None:
        """Agree on keys where the connection is encrypted, then send the challenge."""
        if self._greeted:
            return
        if isinstance(self.connection, Encrypted):
            self.connection.shake()
        self.connection.sendall(self._challenge)
        self._greeted = True

    def _read(self) -> None:
        piece = self.connection.recv(_REPLY - len(self._reply))
        if not piece:
            self.drop()
        self._reply += piece

    def _try(self, action: Callable[[], object]) -> None:
        if self.done:
            return
        try:
            action()
        except BlockingIOError:
            return
        except OSError:
            self.drop()


def knock(
    address: str,
    key: bytes,
    seconds: float = 30.0,
    *,
    certificate: str = "",
    incoming: Any = ToWorker,
) -> Channel[Any]:
    """Connect as a worker or an agent; raises ChannelClosed if nothing listens there, or not this run's coordinator."""
    host, _, port = address.rpartition(":")
    try:
        plain = socket.create_connection((host.strip("[]"), int(port)), timeout=seconds)
    except OSError as error:
        msg = f"no coordinator at {address}: {error}"
        raise ChannelClosed(msg) from error
    connection: Socket = plain
    try:
        if certificate:
            connection = with_certificate(plain, certificate)
        _shake_hands(connection, key)
    except OSError as error:
        connection.close()
        msg = f"{address} is not this run's coordinator: {error}"
        raise ChannelClosed(msg) from error
    return Channel(connection, incoming)


def _shake_hands(connection: Socket, key: bytes) -> None:
    """The worker's side of the handshake; raises OSError if the other side is not the coordinator."""
    challenge, nonce = _exactly(connection, _NONCE), secrets.token_bytes(_NONCE)
    connection.sendall(nonce + _proof(key, b"worker", challenge, nonce))
    proof = _exactly(connection, _REPLY - _NONCE)
    if not hmac.compare_digest(proof, _proof(key, b"coordinator", nonce, challenge)):
        msg = "it does not know the key"
        raise OSError(msg)


def _exactly(connection: Socket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        piece = connection.recv(count - len(received))
        if not piece:
            msg = "it closed the connection during the handshake"
            raise OSError(msg)
        received += piece
    return received


def _proof(key: bytes, side: bytes, *nonces: bytes) -> bytes:
    return hmac.new(key, side + b"".join(nonces), hashlib.sha256).digest()
