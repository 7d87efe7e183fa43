"""The bytes of a connection as answers; httptools parses them."""

from __future__ import annotations

from importlib.util import find_spec

from trt_dp.errors import UsageError
from trt_dp.system.extras import pip_install
from trt_dp.web.events import EventStream
from trt_dp.web.exchange import DONE, Fault, Reply

_INSTALLED = find_spec("httptools") is not None
if _INSTALLED:
    import httptools

_MOST_HEADERS = 1 << 18
_KEPT = 200  # characters of a server's redirect shown in a message


def check_installed() -> None:
    """Raises UsageError without httptools."""
    if not _INSTALLED:
        msg = f"HTTP needs httptools: {pip_install('openai')}"
        raise UsageError(msg)


class AnswerParser:
    """Fills one Reply after the other; `whole` once the present one is complete, `keep` if another may follow.

    `excess` tells that more came than one answer.
    """

    __slots__ = (
        "_events",
        "_headers",
        "_now",
        "_parser",
        "_pieces",
        "_size",
        "excess",
        "keep",
        "reply",
        "whole",
    )

    def __init__(self, reply: Reply) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self.expect(reply)

    def expect(self, reply: Reply) -> None:
        """The next bytes are the answer to this exchange."""
        self.reply = reply
        self.whole = self.keep = self.excess = False
        self._pieces: list[bytes] = []
        self._events: EventStream | None = None
        self._headers = self._size = 0
        self._now = 0.0

    def feed(self, data: memoryview, now: float) -> Fault | None:
        """Take bytes that arrived at this time; a fault if they are no usable answer."""
        self._now = now
        reply = self.reply
        if not reply.first_byte:
            reply.first_byte = now
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            return self._not_http(error)
        return self._too_long(reply, len(data))

    def _not_http(self, error: Exception) -> Fault | None:
        """A fault, unless the answer is whole and only what came after it is none."""
        if self.whole:
            self.keep, self.excess = False, True
            return None
        if isinstance(error, httptools.HttpParserCallbackError):
            raise error
        return Fault("garbled", f"the server did not answer in HTTP: {error}")

    def _too_long(self, reply: Reply, size: int) -> Fault | None:
        if not reply.status:
            self._headers += size
        if self._headers > _MOST_HEADERS:
            return Fault(
                "garbled", f"the answer has endless headers ({self._headers:,} bytes so far)"
            )
        if self._size > reply.exchange.limits.most_bytes:
            return Fault("protocol", f"the answer is too long ({self._size:,} bytes so far)")
        return None

    def closed(self, *, clean: bool) -> Fault | None:
        """The server closed the connection before `whole`: a fault, unless that is how this answer ends."""
        reply = self.reply
        if not reply.first_byte:
            return Fault("closed", "the server closed the connection before it answered")
        if clean and reply.status and not _has_length(reply):
            self.on_message_complete()
        if self.whole or (reply.events and reply.events[-1] == DONE):
            self.whole, self.keep = True, False
            return None
        return Fault(
            "closed", f"the server closed the connection after {self._size:,} bytes of an answer"
        )

    def on_message_begin(self) -> None:
        """An answer begins; raises if nobody asked for it."""
        if self.whole:
            msg = "a second answer"
            raise ValueError(msg)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header arrived."""
        self.reply.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """All headers are there; those of a provisional answer (1xx) are forgotten."""
        reply, status = self.reply, self._parser.get_status_code()
        if status < 200:
            reply.headers.clear()
            return
        reply.status = status
        if reply.exchange.stream and "text/event-stream" in reply.headers.get("content-type", ""):
            self._events = EventStream()
        reply.fault = _unusable(reply)

    def on_body(self, piece: bytes) -> None:
        """A part of the body arrived."""
        self._size += len(piece)
        if self._events is None:
            self._pieces.append(piece)
        else:
            self._add(self._events.feed(piece))

    def _add(self, events: list[bytes]) -> None:
        self.reply.events += events
        self.reply.times += [self._now] * len(events)

    def on_message_complete(self) -> None:
        """The answer is whole, unless it is a provisional one."""
        if not self.reply.status:
            return
        self.whole, self.keep = True, bool(self._parser.should_keep_alive())
        self.reply.body = b"".join(self._pieces)
        if self._events is not None:
            self._add(self._events.end())


def _has_length(reply: Reply) -> bool:
    return "content-length" in reply.headers or "transfer-encoding" in reply.headers


def _unusable(reply: Reply) -> Fault | None:
    """What makes an answer unusable whatever its body says."""
    if 300 <= reply.status < 400:
        where = reply.headers.get("location", "nowhere")[:_KEPT]
        return Fault(
            "redirect", f"the server redirects to {where}: name that server if you trust it"
        )
    coding = reply.headers.get("content-encoding", "identity")
    if coding not in ("identity", ""):
        return Fault(
            "garbled", f"the answer is compressed ({coding[:_KEPT]}), and nobody asked for that"
        )
    return None
