"""What a server's reply means: an answer, or a trouble and whose it is. Pure: nothing is decided here."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from typing import Any, Literal

import msgspec
from msgspec import Struct

from trt_dp.engines.openai.chunks import Answer, Body, join
from trt_dp.errors import UNREADABLE
from trt_dp.system.safe_text import brief
from trt_dp.web.exchange import Reply

Kind = Literal["refused", "doubtful", "busy", "lost", "gone"]

_BUSY = frozenset({408, 409, 425, 429, 502, 503, 504})
_GONE = frozenset({401, 403, 407})
_OWN_WORDS = frozenset({400, 413, 422})
_LOST = ("closed", "timeout")
_MOST_WAIT = 3600.0
_ENDED_EARLY = ("abort", "aborted", "cancelled", "error")
_body = msgspec.json.Decoder(Body).decode
_any = msgspec.json.Decoder().decode


class Trouble(Struct, frozen=True):
    """A reply that is no answer.

    `refused`: the server's verdict on this request. `doubtful`: the request's fault or the server's. `busy`: the
    server takes no more just now. `lost`: the answer did not arrive whole. `gone`: nobody there, or no entry.
    """

    kind: Kind
    message: str
    status: int = 0
    wait_seconds: float | None = None
    garbled: bool = False  # it broke on its way, which is no verdict on the request
    final: bool = False  # the server itself said that it never will: no other try would help


def read(reply: Reply) -> Answer | Trouble:
    """What this reply to a request means."""
    if reply.fault:
        return _of_fault(reply)
    if not reply.ok:
        return _of_status(reply, reply.status, _words(reply))
    try:
        chunks = [_body(data) for data in _pieces(reply)]
    except UNREADABLE as error:
        garbled = not isinstance(error, msgspec.ValidationError)
        message = f"the server's answer cannot be read: {brief(str(error))}"
        return Trouble("doubtful", message, garbled=garbled)
    for chunk in chunks:
        if chunk.error is not None:
            return _of_status(reply, _code(chunk.error), _message(chunk.error))
    return _whole(reply, join(chunks))


def _whole(reply: Reply, answer: Answer | None) -> Answer | Trouble:
    if answer is None:
        if reply.events:
            return Trouble("lost", "the stream ended without an answer")
        return Trouble("doubtful", "the server's answer has no choices")
    if answer.finish_reason in _ENDED_EARLY:
        return Trouble("lost", f"the server gave up the answer ({answer.finish_reason})")
    if not answer.finish_reason and not (reply.events and reply.events[-1] == b"[DONE]"):
        return Trouble("lost", "the answer ended without a finish_reason")
    return answer


def _pieces(reply: Reply) -> list[bytes]:
    if not reply.events:
        return [reply.body]
    return [data for data in reply.events if data != b"[DONE]"]


def _of_fault(reply: Reply) -> Trouble:
    fault = reply.fault
    assert fault is not None  # noqa: S101 - the caller looked
    if fault.kind in _LOST:
        return Trouble("lost", fault.message)
    if fault.kind in ("garbled", "protocol"):
        return Trouble("doubtful", fault.message, garbled=fault.kind == "garbled")
    return Trouble("gone", fault.message)


def _of_status(reply: Reply, status: int, words: str) -> Trouble:
    message = f"HTTP {status}: {words}"
    if status in _BUSY:
        return Trouble("busy", message, status, _retry_after(reply))
    if status in _GONE:
        return Trouble("gone", message, status)
    if status in _OWN_WORDS and _is_json(reply):
        return Trouble("refused", message, status)
    final = 400 <= status < 500 and _is_json(reply)
    garbled = reply.body.startswith(b"{") and not _is_json(reply)
    return Trouble("doubtful", message, status, garbled=garbled, final=final)


def _retry_after(reply: Reply) -> float | None:
    """How long the server asks to wait, in either of the header's two forms."""
    said = reply.headers.get("retry-after", "")
    try:
        milliseconds = reply.headers.get("retry-after-ms")
        seconds = float(milliseconds) / 1000 if milliseconds else float(said)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(said).timestamp() - time.time()
        except (ValueError, TypeError):
            return None
    return min(max(0.0, seconds), _MOST_WAIT) if seconds == seconds else None  # noqa: PLR0124 - NaN


def _is_json(reply: Reply) -> bool:
    """Whether a server of this API speaks, and no proxy in front of it; events always come from the server."""
    if reply.events:
        return True
    try:
        return isinstance(_any(reply.body), dict)
    except UNREADABLE:
        return False


def _words(reply: Reply) -> str:
    """The server's own words, from wherever servers put them."""
    try:
        said = _any(reply.body)
    except UNREADABLE:
        return brief(reply.body.decode(errors="replace")) or "no words"
    if isinstance(said, dict):
        return _message(said.get("error", said))
    return brief(str(said))


def _message(error: Any) -> str:
    if isinstance(error, dict):
        found = next(
            (error[key] for key in ("message", "detail", "error") if error.get(key)), error
        )
        return brief(found if isinstance(found, str) else msgspec.json.encode(found).decode())
    return brief(str(error))


def _code(error: Any) -> int:
    """The status in an error that came in a stream or with status 200."""
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) and 400 <= code < 600 else 500
