"""One connection to a server, which never blocks: connecting, then shaking hands (TLS), then open."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import ssl
import time
from collections.abc import Callable
from enum import Enum

from trt_dp.web.addresses import Found
from trt_dp.web.answer import AnswerParser
from trt_dp.web.exchange import Fault, Reply

Trust = Callable[[], ssl.SSLContext]
READ, WRITE = select.EPOLLIN, select.EPOLLOUT


class State(Enum):
    """Where a connection is in its life."""

    CONNECTING = 1
    SHAKING_HANDS = 2
    OPEN = 3


class Connection:
    """A socket to the first of these addresses, and the exchange on it; idle once `parser.whole`."""

    def __init__(self, found: Found, reply: Reply, request: bytes) -> None:
        (family, self._address), *self.others = found
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.settimeout(0)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.fd = self._socket.fileno()
        self.state = State.CONNECTING
        self.parser = AnswerParser(reply)
        self.request = request
        self.reused = False
        self.since = time.monotonic()
        self.wants = self.watched = WRITE
        self._unsent = memoryview(request)

    @property
    def reply(self) -> Reply:
        """That of the exchange in flight, or of the last."""
        return self.parser.reply

    def connect(self) -> Fault | None:
        """Begin to connect."""
        code = self._socket.connect_ex(self._address)
        return None if code in (0, errno.EINPROGRESS) else _no_connection(code)

    def reuse(self, reply: Reply, request: bytes) -> None:
        """Begin the next exchange on this idle connection."""
        self.parser.expect(reply)
        self.request, self._unsent = request, memoryview(request)
        self.reused = True
        self.since = reply.submitted
        self._send()

    def progress(self, mask: int, buffer: memoryview, trust: Trust) -> Fault | None:
        """Go as far as the socket allows; `parser.whole` tells whether the answer is complete."""
        self.since = time.monotonic()
        if self.state is State.CONNECTING and (fault := self._connected(trust)):
            return fault
        if self.state is State.SHAKING_HANDS:
            return self._shake_hands()
        if mask & ~WRITE and (fault := self._receive(buffer)):
            return fault
        if self._unsent and not self.parser.whole:
            self._send()
        return None

    def _connected(self, trust: Trust) -> Fault | None:
        if code := self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            return _no_connection(code)
        self.state = State.OPEN
        to = self.reply.exchange.to
        if to.tls:
            self.state = State.SHAKING_HANDS
            self._socket = trust().wrap_socket(
                self._socket,
                server_hostname=to.host,
                do_handshake_on_connect=False,
                suppress_ragged_eofs=False,
            )
        return None

    def _shake_hands(self) -> Fault | None:
        try:
            self._socket.do_handshake()  # type: ignore[attr-defined]
        except ssl.SSLWantReadError:
            self.wants = READ
        except ssl.SSLWantWriteError:
            self.wants = WRITE
        except ssl.SSLCertVerificationError as error:
            return Fault("tls", f"the server's certificate is not trusted: {error.verify_message}")
        except OSError as error:
            return Fault("tls", f"no TLS connection: {error.strerror or error}")
        else:
            self.state = State.OPEN
            self._send()
        return None

    def _send(self) -> None:
        try:
            sent = self._socket.send(self._unsent)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            sent = 0
        except OSError:  # it may have answered before it hung up: what it said is still to be read
            self._unsent = self._unsent[:0]
        else:
            self._unsent = self._unsent[sent:]
        self.wants = READ | WRITE if self._unsent else READ

    def _receive(self, buffer: memoryview) -> Fault | None:
        try:
            size = self._socket.recv_into(buffer)
            fault = self._take(buffer[:size])
            while not fault and self._more():
                size = self._socket.recv_into(buffer)
                fault = self._take(buffer[:size])
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        except OSError:  # reset, or TLS without its own end
            return self.parser.closed(clean=False)
        return fault

    def _take(self, data: memoryview) -> Fault | None:
        if not data:
            return self.parser.closed(clean=True)
        return self.parser.feed(data, self.since)

    def _more(self) -> bool:
        """Whether TLS holds decrypted bytes, which the system does not report."""
        return isinstance(self._socket, ssl.SSLSocket) and self._socket.pending() > 0

    @property
    def unasked(self) -> bool:
        """Whether the server sent something on this idle connection, though it was asked nothing."""
        try:
            if isinstance(self._socket, ssl.SSLSocket):
                return self._socket.pending() > 0
            return bool(self._socket.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    @property
    def reusable(self) -> bool:
        """Whether another exchange can follow: the answer was whole, and the request was sent to its end."""
        return self.parser.whole and self.parser.keep and not self._unsent

    def close(self) -> None:
        """Close it at once."""
        with contextlib.suppress(OSError):
            self._socket.close()


def _no_connection(code: int) -> Fault:
    return Fault("connect", f"no connection: {os.strerror(code)}")
