"""The bytes of a request."""

from __future__ import annotations

import re

from trt_dp.errors import UsageError
from trt_dp.web.exchange import Exchange

_PLAIN = re.compile(r"[!-~]*")
_HEADER = re.compile(r"[\t -~]*")


def request_bytes(exchange: Exchange) -> bytes:
    """Head and body; raises UsageError for a path or header that could not be sent as it is."""
    head = f"{exchange.method} {exchange.to.path}{exchange.path or '/'} HTTP/1.1\r\n"
    lines = [f"host: {exchange.to.authority}", "user-agent: trt-dp", "accept-encoding: identity"]
    lines.append(f"accept: {'text/event-stream, */*' if exchange.stream else '*/*'}")
    if exchange.body or exchange.method == "POST":
        lines += ["content-type: application/json", f"content-length: {len(exchange.body)}"]
    lines += [f"{name}: {value}" for name, value in exchange.headers]
    _check(exchange, lines)
    if exchange.key:
        lines.append(f"authorization: Bearer {exchange.key.reveal()}")
    return (head + "\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + exchange.body


def _check(exchange: Exchange, lines: list[str]) -> None:
    if not _PLAIN.fullmatch(exchange.method + exchange.path):
        msg = f"the path {exchange.path!r} has characters that no request can carry"
        raise UsageError(msg)
    if not _HEADER.fullmatch("".join(lines)):
        msg = "a header has characters that no request can carry"
        raise UsageError(msg)
