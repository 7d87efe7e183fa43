"""Typed messages over one authenticated socket: msgpack, never pickle.

Both sides prove that they know the run's key before a message is read:

    coordinator                         worker
    challenge (32 bytes)       ──►
                               ◄──      nonce (32) + HMAC(key, "worker", challenge, nonce)
    HMAC(key, "coordinator",   ──►
         nonce, challenge)              now frames: length (4 bytes) + msgpack
"""

from __future__ import annotations

import hashlib
import hmac
import resource
import secrets
import select
import socket
import struct
import time
from typing import Any, Generic, TypeVar

import msgspec

from trt_dp.errors import UNREADABLE, ChannelClosed
from trt_dp.wire.messages import ToCoordinator, ToWorker

MAX_MESSAGE = 1 << 30
HANDSHAKE_SECONDS = 10.0
_MAX_PENDING = 128
_AT_ONCE = 16
_FIRST_MESSAGE = 4096  # a Hello is all that may come from who has no seat yet
_NONCE = 32
_REPLY = _NONCE + hashlib.sha256().digest_size
_PIECE = 1 << 18
_PIECES_AT_ONCE = 16  # a flood from one side must not keep the other from its loop

Incoming = TypeVar("Incoming")


class Channel(Generic[Incoming]):
    """One side of a conversation; neither `send` nor `receive` ever waits for the other side."""

    def __init__(self, connection: socket.socket, incoming: Any, limit: int = MAX_MESSAGE) -> None:
        connection.setblocking(False)  # noqa: FBT003 - the socket's own signature
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._socket = connection
        self.limit = limit  # of an incoming message, in bytes
        self._decode = msgspec.msgpack.Decoder(incoming).decode
        self._encode = msgspec.msgpack.Encoder().encode
        self._arrived = bytearray()
        self._leaving = bytearray()

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._socket.fileno()

    @property
    def sending(self) -> bool:
        """Whether something is still to be written: call `flush` once the socket takes more."""
        return bool(self._leaving)

    def send(self, message: ToWorker | ToCoordinator) -> None:
        """Write a message as far as the socket takes it now; the rest waits for `flush`."""
        body = self._encode(message)
        self._leaving += struct.pack("<I", len(body))
        self._leaving += body
        self.flush()

    def flush(self) -> None:
        """Write what waits, as far as the socket takes it now."""
        try:
            while self._leaving:
                del self._leaving[: self._socket.send(self._leaving)]
        except BlockingIOError:
            return
        except OSError as error:
            raise ChannelClosed(str(error)) from error

    def receive(self) -> list[Incoming]:
        """The whole messages that have arrived; raises ChannelClosed only when none is left to give."""
        closed = self._fill()
        messages = self._unpack()
        if closed and not messages:
            raise ChannelClosed(closed)
        return messages

    def wait(self, seconds: float) -> bool:
        """Wait until something arrived, or could be written, or the time is over; whether something arrived."""
        leaving = [self._socket] if self._leaving else []
        arrived, _, _ = select.select([self._socket], leaving, [], seconds)
        return bool(arrived)

    def close(self) -> None:
        """Hang up; the other side sees it at once."""
        self._socket.close()

    def _fill(self) -> str:
        """Read what is there; says why the channel is closed, or nothing."""
        try:
            for _ in range(_PIECES_AT_ONCE):
                piece = self._socket.recv(_PIECE)
                if not piece:
                    return "the other side hung up"
                self._arrived += piece
                if len(piece) < _PIECE:
                    return ""
        except BlockingIOError:
            return ""
        except OSError as error:
            return str(error)
        return ""

    def _unpack(self) -> list[Incoming]:
        messages: list[Incoming] = []
        start = 0
        with memoryview(self._arrived) as view:
            while len(view) - start >= 4:
                (length,) = struct.unpack_from("<I", view, start)
                if length > self.limit:
                    msg = f"a message of {length} bytes was announced"
                    raise ChannelClosed(msg)
                if len(view) - start - 4 < length:
                    break
                messages.append(self._message(view[start + 4 : start + 4 + length]))
                start += 4 + length
        del self._arrived[:start]
        return messages

    def _message(self, body: memoryview) -> Incoming:
        try:
            return self._decode(body)  # type: ignore[no-any-return]  # the decoder's type is a value
        except UNREADABLE as error:
            msg = f"what came is no message: {error}"
            raise ChannelClosed(msg) from error


class Door:
    """Where workers knock: a listening socket, and those whose handshake is under way."""

    def __init__(self, host: str, key: bytes) -> None:
        self._key = key
        self._listening = socket.create_server((host, 0), backlog=_MAX_PENDING)
        self._listening.setblocking(False)  # noqa: FBT003 - the socket's own signature
        self._pending: list[_Knock] = []
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._room = max(1, min(_MAX_PENDING, descriptors // 8))  # the rest is for the run itself

    @property
    def address(self) -> str:
        """What a worker connects to, as host:port."""
        host, port = self._listening.getsockname()[:2]
        return f"{host}:{port}"

    @property
    def busy(self) -> bool:
        """Whether a handshake is under way, so that `admit` is to be called again soon."""
        return bool(self._pending)

    def fileno(self) -> int:
        """The descriptor that becomes readable when someone knocks."""
        return self._listening.fileno()

    def admit(self) -> list[Channel[ToCoordinator]]:
        """Those who have proved that they know the key; never waits, and drops who takes too long."""
        admitted = self._proved()  # before a crowd of newcomers takes their places
        self._accept()
        admitted += self._proved()
        return [Channel(connection, ToCoordinator, _FIRST_MESSAGE) for connection in admitted]

    def close(self) -> None:
        """Stop listening and drop whoever is still knocking."""
        self._listening.close()
        for knock in self._pending:
            knock.drop()
        self._pending.clear()

    def _proved(self) -> list[socket.socket]:
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
                self._pending.append(_Knock(connection))
        except BlockingIOError:  # nobody (more) is knocking
            return
        except OSError:  # no descriptor is free for them now
            self._make_room(len(self._pending) - 1)

    def _make_room(self, most: int) -> None:
        """Drop some by chance: in a crowd that pushes in, none can push out a worker for certain."""
        while len(self._pending) > max(0, most):
            self._pending.pop(secrets.randbelow(len(self._pending))).drop()


class _Knock:
    """A handshake as the coordinator sees it: waiting, proved, or dropped (the last two are `done`)."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)  # noqa: FBT003 - the socket's own signature
        self.connection = connection
        self.deadline = time.monotonic() + HANDSHAKE_SECONDS
        self.done = False
        self._challenge = secrets.token_bytes(_NONCE)
        self._reply = b""
        self._try(lambda: connection.sendall(self._challenge))

    def proved(self, key: bytes) -> bool:
        """Read what has come; True once, when the reply is whole and right."""
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
        """Hang up on whoever it was."""
        self.done = True
        self.connection.close()

    def _read(self) -> None:
        piece = self.connection.recv(_REPLY - len(self._reply))
        if not piece:
            self.drop()
        self._reply += piece

    def _try(self, action: Any) -> None:
        if self.done:
            return
        try:
            action()
        except BlockingIOError:
            return
        except OSError:
            self.drop()


def knock(address: str, key: bytes, seconds: float = 30.0) -> Channel[ToWorker]:
    """Connect as a worker and shake hands; raises ChannelClosed when the door is shut or the key is wrong."""
    host, _, port = address.rpartition(":")
    try:
        connection = socket.create_connection((host, int(port)), timeout=seconds)
    except OSError as error:
        msg = f"no coordinator at {address}: {error}"
        raise ChannelClosed(msg) from error
    try:
        _shake_hands(connection, key)
    except OSError as error:
        connection.close()
        msg = f"whoever listens at {address} is not this run's coordinator: {error}"
        raise ChannelClosed(msg) from error
    return Channel(connection, ToWorker)


def _shake_hands(connection: socket.socket, key: bytes) -> None:
    """The worker's side of the handshake; raises OSError when the other side is not what it should be."""
    challenge, nonce = _exactly(connection, _NONCE), secrets.token_bytes(_NONCE)
    connection.sendall(nonce + _proof(key, b"worker", challenge, nonce))
    proof = _exactly(connection, _REPLY - _NONCE)
    if not hmac.compare_digest(proof, _proof(key, b"coordinator", nonce, challenge)):
        msg = "it does not know the key"
        raise OSError(msg)


def _exactly(connection: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        piece = connection.recv(count - len(received))
        if not piece:
            msg = "it hung up during the handshake"
            raise OSError(msg)
        received += piece
    return received


def _proof(key: bytes, side: bytes, *nonces: bytes) -> bytes:
    return hmac.new(key, side + b"".join(nonces), hashlib.sha256).digest()
