"""Typed messages over one socket, msgpack and never pickle: a frame is its length (4 bytes), then the message."""

from __future__ import annotations

import select
import socket
import struct
from typing import Any, Generic, TypeVar

import msgspec

from trt_dp.errors import UNREADABLE, ChannelClosed
from trt_dp.wire.keepalive import keep_alive
from trt_dp.wire.messages import ToAgent, ToCoordinator, ToWorker
from trt_dp.wire.tls import Encrypted, Socket

MAX_MESSAGE = 1 << 30
_PIECE = 1 << 18
_AT_ONCE = 1 << 22  # a flood from one side must not keep the other side from its loop

Incoming = TypeVar("Incoming")


class Channel(Generic[Incoming]):
    """One side of a connection; `send` and `receive` never wait for the other side."""

    def __init__(self, connection: Socket, incoming: Any, limit: int = MAX_MESSAGE) -> None:
        connection.setblocking(False)  # noqa: FBT003 - the socket's own signature
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        keep_alive(connection)
        self._socket = connection
        self._in_records = isinstance(connection, Encrypted)
        self.limit = limit  # in bytes, for one incoming message
        self._decode = msgspec.msgpack.Decoder(incoming).decode
        self._encode = msgspec.msgpack.Encoder().encode
        self._arrived = bytearray()
        self._leaving = bytearray()

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._socket.fileno()

    @property
    def sending(self) -> bool:
        """Whether something is still unwritten: call `flush` once the socket takes more."""
        return bool(self._leaving)

    def send(self, message: ToWorker | ToAgent | ToCoordinator) -> None:
        """Write a message as far as the socket takes it now; call `flush` for the rest."""
        body = self._encode(message)
        self._leaving += struct.pack("<I", len(body))
        self._leaving += body
        self.flush()

    def flush(self) -> None:
        """Write the rest, as far as the socket takes it now."""
        try:
            while self._leaving:
                del self._leaving[: self._socket.send(self._leaving)]
        except BlockingIOError:
            return
        except OSError as error:
            raise ChannelClosed(str(error)) from error

    def receive(self) -> list[Incoming]:
        """The whole messages that have arrived; raises ChannelClosed only when none is left."""
        closed = self._fill()
        messages = self._unpack()
        if closed and not messages:
            raise ChannelClosed(closed)
        return messages

    def wait(self, seconds: float) -> bool:
        """Wait until something arrives or can be written, at most so long; True if something arrived."""
        leaving = [self._socket] if self._leaving else []
        arrived, _, _ = select.select([self._socket], leaving, [], seconds)
        return bool(arrived)

    def close(self) -> None:
        """Close the connection; the other side notices at once."""
        self._socket.close()

    def _fill(self) -> str:
        """Read what is there; returns why the channel is closed, or an empty string."""
        most = len(self._arrived) + _AT_ONCE
        try:
            while len(self._arrived) < most:
                piece = self._socket.recv(_PIECE)
                if not piece:
                    return "the other side closed the connection"
                self._arrived += piece
                if len(piece) < _PIECE and not self._in_records:
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
                    msg = f"a message of {length} bytes was announced; the limit is {self.limit}"
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
            msg = f"an invalid message arrived: {error}"
            raise ChannelClosed(msg) from error
