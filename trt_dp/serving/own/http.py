"""HTTP/1.1 as the own server speaks it: one connection, its requests one after the other, all within limits."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from http import HTTPStatus

import httptools
from msgspec import Struct

from trt_dp.errors import CallRefused
from trt_dp.serving.own.limits import Limits

_log = logging.getLogger(__name__)
_WISHES = (
    "upgrade",
    "connection",
    "http2-settings",
)  # for HTTP/2, which this server does not speak
_AHEAD = 1  # requests that a client may send before it has its answer
Handle = Callable[["Heard", "Connection"], Awaitable[None]]
Headers = tuple[tuple[str, str], ...]
JSON = "application/json"


class Heard(Struct, frozen=True):
    """A whole request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    keep_alive: bool
    chunks: bool  # whether the client understands an answer in chunks (HTTP/1.1)


class Connections:
    """All connections of a server: how many there are, and what each is made with."""

    def __init__(
        self, handle: Handle, error: Callable[[CallRefused], bytes], limits: Limits
    ) -> None:
        self.handle, self.error, self.limits = handle, error, limits
        self.open: set[Connection] = set()

    def __call__(self) -> Connection:
        """A new one."""
        return Connection(self)


class Connection(asyncio.Protocol):
    """A client: idle, sending a request, or being answered. When it leaves, the answering is cancelled."""

    def __init__(self, all_: Connections) -> None:
        self._all, self._limits = all_, all_.limits
        self._loop = asyncio.get_running_loop()
        self._heard: deque[Heard] = deque()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._broken: CallRefused | None = None
        self._now: Heard | None = None
        self._begun = self._upgrade = False
        self._reset()

    # what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type checker
        self._transport = transport
        self._parser = httptools.HttpRequestParser(self)
        if len(self._all.open) >= self._limits.connections:
            self._refuse(CallRefused(503, "too many connections"))
            return
        self._all.open.add(self)
        self._arm(self._limits.idle_seconds, self._transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client left."""
        del exc
        self._all.open.discard(self)
        self._disarm()
        self._writable.set()
        if self._task:
            self._task.cancel()

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        """The client sent something."""
        if self._broken or self._transport.is_closing():
            return
        self._limit_time()
        try:
            self._feed(data)
            self._limit_head(len(data))
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._broken = self._broken or CallRefused(400, f"this is not valid HTTP: {error}")
        if self._broken:
            self._serve()

    def _feed(self, data: bytes) -> None:
        """Parse it; a wish for another protocol is ignored, as HTTP allows, so its body is read as any other."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as error:
            if not self._upgrade or self._broken:
                raise
            head, self._parser = self._plain_head(), httptools.HttpRequestParser(self)
            self._feed(head + data[error.args[0] :])

    def _plain_head(self) -> bytes:
        """The head of this request without the wish."""
        kept = {name: text for name, text in self._headers.items() if name not in _WISHES}
        lines = [f"{name}: {text}\r\n" for name, text in kept.items()]
        method = self._parser.get_method()
        return (
            method
            + b" "
            + self._url
            + b" HTTP/1.1\r\n"
            + "".join(lines).encode("latin-1")
            + b"\r\n"
        )

    # what the parser calls

    def on_message_begin(self) -> None:
        """A request begins."""
        self._reset()

    def on_url(self, url: bytes) -> None:
        """A part of its target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One of its headers."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Its body begins."""
        self._in_head = False
        self._upgrade = self._parser.should_upgrade()
        if self._upgrade and self._parser.get_method() == b"CONNECT":
            self._stop(CallRefused(400, "this server is no proxy"))
        if self._upgrade:
            return
        length = self._headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self._limits.body_bytes:
            self._stop(self._too_large())
        if self._headers.get("expect", "").lower() == "100-continue" and not self._task:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """A part of its body."""
        self._size += len(body)
        if self._size > self._limits.body_bytes:
            self._stop(self._too_large())
        self._body.append(body)

    def on_message_complete(self) -> None:
        """It is whole."""
        if self._upgrade:
            return
        self._heard.append(
            Heard(
                method=self._parser.get_method().decode("latin-1"),
                path=self._url.partition(b"?")[0].decode("latin-1"),
                headers=self._headers,
                body=b"".join(self._body),
                keep_alive=self._parser.should_keep_alive(),
                chunks=self._parser.get_http_version() != "1.0",
            )
        )
        self._reset()
        self._disarm()
        self._serve()

    # how the server answers

    async def send(self, status: int, body: bytes, kind: str = JSON, headers: Headers = ()) -> None:
        """Answer in one piece."""
        more = (("Content-Length", str(len(body))), *headers)
        self._write(self._head(status, kind, more) + (b"" if self._is_head else body))
        await self._drain()

    async def begin(self) -> None:
        """Begin an answer of server-sent events."""
        chunked = (("Transfer-Encoding", "chunked"),) if self._now and self._now.chunks else ()
        more = (("Cache-Control", "no-cache"), ("X-Accel-Buffering", "no"), *chunked)
        self._write(self._head(200, "text/event-stream; charset=utf-8", more))
        await self._drain()

    async def event(self, data: bytes) -> None:
        """Send an event of an answer that has begun."""
        framed = b"data: " + data + b"\n\n"
        if self._now and self._now.chunks:
            framed = b"%x\r\n%b\r\n" % (len(framed), framed)
        self._write(framed)
        await self._drain()

    def end(self) -> None:
        """End an answer that has begun."""
        if self._now and self._now.chunks:
            self._write(b"0\r\n\r\n")

    @property
    def begun(self) -> bool:
        """Whether something of the answer is sent."""
        return self._begun

    def close(self) -> None:
        """Drop the client."""
        self._transport.abort()

    # the rest is this file's own

    def _reset(self) -> None:
        self._url, self._headers, self._size = b"", dict[str, str](), 0
        self._body: list[bytes] = []
        self._in_head, self._head_size, self._timed = True, 0, False

    def _limit_time(self) -> None:
        """A request must be whole soon after its first byte."""
        if not self._timed and not self._task:
            self._timed = True
            self._arm(self._limits.read_seconds, self._too_slow)

    def _limit_head(self, size: int) -> None:
        """A head that goes on and on is refused."""
        self._head_size += size if self._in_head else 0
        if self._in_head and self._head_size > self._limits.head_bytes:
            self._broken = CallRefused(431, "the head of this request is too large")

    def _too_large(self) -> CallRefused:
        return CallRefused(413, f"the body is larger than {self._limits.body_bytes:,} bytes")

    def _too_slow(self) -> None:
        self._refuse(
            CallRefused(408, f"the request was not complete after {self._limits.read_seconds:g} s")
        )

    def _stop(self, fault: CallRefused) -> None:
        self._broken = fault
        raise fault

    def _serve(self) -> None:
        """Answer what was heard, unless that is being done already."""
        if self._task is None:
            self._task = self._loop.create_task(self._answer_all())
        elif len(self._heard) >= _AHEAD:
            self._transport.pause_reading()

    async def _answer_all(self) -> None:
        try:
            while self._heard and not self._transport.is_closing():
                await self._answer(self._heard.popleft())
        finally:
            self._task = None
        if self._broken:
            self._refuse(self._broken)
        elif not self._transport.is_closing():
            self._transport.resume_reading()
            self._arm(self._limits.idle_seconds, self._transport.close)

    async def _answer(self, heard: Heard) -> None:
        self._now, self._begun = heard, False
        try:
            await self._all.handle(heard, self)
        except ConnectionError:
            return  # the client left, or was dropped
        except Exception:
            _log.exception("%s %s", heard.method, heard.path)
            self._refuse(CallRefused(500, "the server failed; its log says why"))
            return
        self._now, self._begun = None, False
        if not heard.keep_alive:
            self._close()

    def _refuse(self, fault: CallRefused) -> None:
        """Say why and close; in the middle of an answer only close."""
        if self._transport.is_closing():
            return
        if not self._begun:
            body = self._all.error(fault)
            self._now = None
            self._write(
                self._head(fault.status, JSON, (("Content-Length", str(len(body))),)) + body
            )
            self._close()
        else:
            self._transport.abort()

    def _close(self) -> None:
        """Close once the client has taken its answer; it has so long for that."""
        self._transport.close()
        self._arm(self._limits.write_seconds, self._transport.abort)

    @property
    def _is_head(self) -> bool:
        return self._now is not None and self._now.method == "HEAD"

    def _head(self, status: int, kind: str, headers: Headers) -> bytes:
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"Content-Type: {kind}"]
        lines += [f"{name}: {value}" for name, value in headers]
        if self._now is None or not self._now.keep_alive:
            lines.append("Connection: close")
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def _write(self, data: bytes) -> None:
        if self._transport.is_closing():
            raise ConnectionResetError
        self._begun = True
        self._transport.write(data)

    async def _drain(self) -> None:
        """Wait until the client has taken most of it; one that takes nothing for long is dropped."""
        if self._writable.is_set():
            return
        try:
            await asyncio.wait_for(self._writable.wait(), self._limits.write_seconds)
        except asyncio.TimeoutError as error:
            self._transport.abort()
            raise ConnectionResetError from error

    def _arm(self, seconds: float, then: Callable[[], None]) -> None:
        self._disarm()
        self._timer = self._loop.call_later(seconds, then)

    def _disarm(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
