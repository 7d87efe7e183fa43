"""The client: all its connections, and one wait for all of them.

submit -> idle connection, or a new one -> Connection (socket, TLS) -> AnswerParser (httptools) -> Reply -> poll
"""

from __future__ import annotations

import itertools
import select
import ssl
import time
from types import TracebackType

from typing_extensions import Self

from trt_dp.web.addresses import AddressBook, Found
from trt_dp.web.answer import check_installed
from trt_dp.web.connection import Connection, State
from trt_dp.web.exchange import Exchange, Fault, Reply
from trt_dp.web.request import request_bytes
from trt_dp.web.target import Target

_BUFFER = 1 << 18
_LOOK_SECONDS = 0.1
_Place = tuple[str, int, bool]


class Client:
    """Exchanges in flight with any number of servers; belongs to one thread. See the room's docstring."""

    def __init__(self, trust: ssl.SSLContext | None = None) -> None:
        check_installed()
        self._trust = trust
        self._epoll = select.epoll()
        self._book = AddressBook()
        self._buffer = memoryview(bytearray(_BUFFER))
        self._numbers = itertools.count(1)
        self._connections: dict[int, Connection] = {}
        self._busy: dict[int, Connection] = {}
        self._idle: dict[_Place, list[Connection]] = {}
        self._wary: set[_Place] = set()  # where connections are not reused
        self._replies: list[Reply] = []
        self._look_at = 0.0
        self.heard = time.monotonic()  # when a byte last came, or a connection was made

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    @property
    def in_flight(self) -> int:
        """How many exchanges have no reply yet, or one that was not fetched."""
        return len(self._busy) + len(self._replies)

    def submit(self, exchange: Exchange) -> int:
        """Begin an exchange; its reply has this number. Waits for nothing but the look-up of a host's name."""
        reply = Reply(number=next(self._numbers), exchange=exchange, submitted=time.monotonic())
        request = request_bytes(exchange)
        kept = self._kept(_place(exchange))
        if kept:
            self._reuse(kept, reply, request)
        else:
            self._look_up(reply, request)
        return reply.number

    def poll(self, seconds: float) -> list[Reply]:
        """The replies that are complete, as soon as there is one; none after this time."""
        until = time.monotonic() + seconds
        while True:
            wait = 0.0 if self._replies else max(0.0, until - time.monotonic())
            for fd, mask in self._epoll.poll(min(wait, _LOOK_SECONDS)):
                self._progress(self._connections[fd], mask)
            now = time.monotonic()
            if now >= self._look_at:
                self._check_limits(now)
            if self._replies or now >= until:
                replies, self._replies = self._replies, []
                return replies

    def distrust(self, to: Target) -> None:
        """Never again reuse a connection to this server: it said what nobody asked for."""
        self._forget((to.host, to.port, to.tls))

    def close_idle(self) -> None:
        """Close the connections that no exchange uses."""
        for connections in self._idle.values():
            for connection in connections:
                self._drop(connection)
        self._idle.clear()

    def cancel(self, number: int) -> None:
        """Forget an exchange, if it is still in flight, and close its connection."""
        if connection := self._busy.pop(number, None):
            self._drop(connection)

    def close(self) -> None:
        """Close all connections; what is in flight gets no reply."""
        for connection in list(self._connections.values()):
            self._drop(connection)
        self._busy.clear()
        self._idle.clear()
        self._epoll.close()

    def _kept(self, place: _Place) -> Connection | None:
        """An idle connection to this server."""
        idle = self._idle.get(place)
        if not idle:
            return None
        connection = idle.pop()
        if not connection.unasked:
            return connection
        self._drop(connection)
        self._forget(place)
        return None

    def _forget(self, place: _Place) -> None:
        self._wary.add(place)
        for connection in self._idle.pop(place, []):
            self._drop(connection)

    def _look_up(self, reply: Reply, request: bytes) -> None:
        exchange = reply.exchange
        try:
            found = self._book.find(exchange.to, exchange.limits.connect_seconds)
        except OSError as error:
            why = error.strerror or error
            self._finish(reply, Fault("connect", f"{exchange.to.host} cannot be found: {why}"))
            return
        self._connect(found, reply, request)

    def _connect(self, found: Found, reply: Reply, request: bytes) -> None:
        try:
            connection = Connection(found, reply, request)
        except OSError as error:  # too many open files
            self._finish(reply, Fault("connect", f"no socket: {error.strerror}"))
            return
        self._busy[reply.number] = self._connections[connection.fd] = connection
        self._epoll.register(connection.fd, connection.watched)
        if fault := connection.connect():
            self._fail(connection, fault)

    def _reuse(self, connection: Connection, reply: Reply, request: bytes) -> None:
        self._busy[reply.number] = connection
        connection.reuse(reply, request)
        self._watch(connection)

    def _progress(self, connection: Connection, mask: int) -> None:
        if connection.reply.number not in self._busy:  # idle: whatever came, it is of no use now
            place = _place(connection.reply.exchange)
            self._idle[place].remove(connection)
            if connection.unasked:
                self._forget(place)
            self._drop(connection)
            return
        self.heard = time.monotonic()
        if fault := connection.progress(mask, self._buffer, self._trusted):
            self._fail(connection, fault)
        elif connection.parser.whole:
            self._complete(connection)
        else:
            self._watch(connection)

    def _trusted(self) -> ssl.SSLContext:
        """What certificates are verified by; the system's are read once a server needs it, for that takes a while."""
        self._trust = self._trust or ssl.create_default_context()
        return self._trust

    def _watch(self, connection: Connection) -> None:
        if connection.wants != connection.watched:
            connection.watched = connection.wants
            self._epoll.modify(connection.fd, connection.watched)

    def _complete(self, connection: Connection) -> None:
        reply, place = connection.reply, _place(connection.reply.exchange)
        if connection.parser.excess:
            self._forget(place)
        if connection.reusable and place not in self._wary:
            self._watch(connection)
            self._idle.setdefault(place, []).append(connection)
        else:
            self._drop(connection)
        self._finish(reply, reply.fault)

    def _fail(self, connection: Connection, fault: Fault) -> None:
        """Try the next address, or once more if the kept connection was closed meanwhile; else it has failed."""
        self._drop(connection)
        reply = connection.reply
        if fault.kind == "connect" and connection.others:
            self._connect(connection.others, reply, connection.request)
        elif connection.reused and fault.kind == "closed" and not reply.first_byte:
            self._look_up(reply, connection.request)
        else:
            self._finish(reply, fault)

    def _finish(self, reply: Reply, fault: Fault | None) -> None:
        self._busy.pop(reply.number, None)
        reply.fault = fault
        reply.done = time.monotonic()
        self._replies.append(reply)

    def _drop(self, connection: Connection) -> None:
        self._connections.pop(connection.fd, None)
        connection.close()  # which takes it out of epoll too

    def _check_limits(self, now: float) -> None:
        self._look_at = now + _LOOK_SECONDS
        for connection in list(self._busy.values()):
            if fault := _too_slow(connection, now):
                self._fail(connection, fault)


def _place(exchange: Exchange) -> _Place:
    to = exchange.to
    return to.host, to.port, to.tls


def _too_slow(connection: Connection, now: float) -> Fault | None:
    """The limit that an exchange has run over."""
    limits = connection.reply.exchange.limits
    if now - connection.reply.submitted > limits.total_seconds:
        return Fault("timeout", f"no whole answer within {limits.total_seconds:g} s")
    silent = now - connection.since
    if connection.state is not State.OPEN:
        late = silent > limits.connect_seconds
        return (
            Fault("connect", f"no connection within {limits.connect_seconds:g} s") if late else None
        )
    late = silent > limits.silent_seconds
    return Fault("timeout", f"no byte for {limits.silent_seconds:g} s") if late else None
