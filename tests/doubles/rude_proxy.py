"""A proxy between a client and a server that breaks HTTP in a different way each time; run as a process.

Every answer has the trouble that is next in the list. It proves what a client makes of broken answers, and nothing
about any real proxy: most of these were seen, but never so many of them in one.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator

HEAD = b"\r\n\r\n"
PAGE = b"<html><h1>%d Bad Gateway</h1></html>"


def main() -> None:
    """`rude_proxy.py PORT TROUBLE,TROUBLE,...`: prints its own port, and serves until it is killed."""
    back = int(sys.argv[1])
    troubles = itertools.cycle(sys.argv[2].split(","))
    server = socket.create_server(("127.0.0.1", 0), backlog=256)
    print(server.getsockname()[1], flush=True)
    while True:
        client, _ = server.accept()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_serve, args=(client, back, troubles), daemon=True).start()


def _serve(client: socket.socket, back: int, troubles: Iterator[str]) -> None:
    with contextlib.suppress(OSError), client:
        rest = b""
        while True:
            request, rest = _message(client, rest)
            if not request:
                return
            answer = _ask(back, request)
            polite = not request.startswith(b"POST")
            if not TROUBLES["none" if polite else next(troubles)](client, answer):
                return


def _message(client: socket.socket, rest: bytes) -> tuple[bytes, bytes]:
    """The next request, and what came after it."""
    while HEAD not in rest:
        if not (data := client.recv(1 << 16)):
            return b"", b""
        rest += data
    head, _, body = rest.partition(HEAD)
    size = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0] or 0)
    while len(body) < size:
        body += client.recv(1 << 16)
    return head + HEAD + body[:size], body[size:]


def _ask(back: int, request: bytes) -> bytes:
    """The server's whole answer, on a connection of its own."""
    line, _, rest = request.partition(b"\r\n")
    with socket.create_connection(("127.0.0.1", back)) as server:
        server.sendall(line + b"\r\nConnection: close\r\n" + rest)
        answer = b"".join(iter(lambda: server.recv(1 << 16), b""))
    return re.sub(rb"\r\nconnection: close", b"", answer, count=1, flags=re.IGNORECASE)


def _plain(answer: bytes) -> tuple[bytes, bytes]:
    """An answer's head without its framing, and its body."""
    head, _, body = answer.partition(HEAD)
    lines = [
        line
        for line in head.split(b"\r\n")
        if not line.lower().startswith((b"content-length", b"transfer-encoding", b"connection"))
    ]
    if b"transfer-encoding: chunked" in head.lower():
        body = b"".join(_chunks(body))
    return b"\r\n".join(lines), body


def _chunks(body: bytes) -> Iterator[bytes]:
    while body:
        size, _, rest = body.partition(b"\r\n")
        yield rest[: int(size, 16)]
        body = rest[int(size, 16) + 2 :]


def _whole(client: socket.socket, answer: bytes) -> bool:
    client.sendall(answer)
    return True


def _cut(share: float) -> Callable[[socket.socket, bytes], bool]:
    return lambda client, answer: client.sendall(answer[: int(len(answer) * share)]) or False


def _reset(client: socket.socket, answer: bytes) -> bool:
    client.sendall(answer[: len(answer) // 2])
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


def _twice(seconds: float) -> Callable[[socket.socket, bytes], bool]:
    def send(client: socket.socket, answer: bytes) -> bool:
        client.sendall(answer)
        time.sleep(seconds)
        client.sendall(answer)
        return True

    return send


def _together(client: socket.socket, answer: bytes) -> bool:
    client.sendall(answer + answer)
    return True


def _slowly(client: socket.socket, answer: bytes) -> bool:
    time.sleep(0.2)
    for place in range(0, len(answer), 97):
        client.sendall(answer[place : place + 97])
        time.sleep(0.001)
    return True


def _framed(line: bytes, more: int = 0, version: bytes = b"HTTP/1.1") -> Callable:
    """The body under another framing, of which `{}` is its length and so many bytes."""

    def send(client: socket.socket, answer: bytes) -> bool:
        head, body = _plain(answer)
        line_ = line.replace(b"{}", b"%d" % max(0, len(body) + more))
        head = version + head[8:] + (b"\r\n" + line_ if line_ else b"")
        client.sendall(head + HEAD + body)
        return False

    return send


def _chunked(size: int | None, end: bytes) -> Callable:
    """The body as chunks, the last but one of a wrong size, with this end."""

    def send(client: socket.socket, answer: bytes) -> bool:
        head, body = _plain(answer)
        half, other = body[: len(body) // 2], body[len(body) // 2 :]
        wrong = len(other) if size is None else len(other) + size
        parts = b"%x\r\n%s\r\n%x\r\n%s\r\n" % (len(half), half, wrong, other)
        client.sendall(head + b"\r\nTransfer-Encoding: chunked" + HEAD + parts + end)
        return False

    return send


def _before(lines: bytes) -> Callable:
    return lambda client, answer: client.sendall(lines + answer) is None


def _instead(said: bytes) -> Callable:
    return lambda client, _: client.sendall(said) or False


def _page(status: int, kind: bytes = b"text/html") -> bytes:
    page = PAGE % status
    form = b"HTTP/1.1 %d Said\r\nContent-Type: %s\r\nContent-Length: %d" + HEAD + b"%s"
    return form % (status, kind, len(page), page)


TROUBLES: dict[str, Callable[[socket.socket, bytes], bool]] = {
    "none": _whole,
    "cut-early": _cut(0.02),
    "cut-middle": _cut(0.5),
    "cut-late": _cut(0.97),
    "nothing": _cut(0),
    "reset": _reset,
    "twice": _twice(0),
    "twice-late": _twice(0.003),
    "together": _together,
    "slowly": _slowly,
    "long-length": _framed(b"Content-Length: {}", 10),
    "short-length": _framed(b"Content-Length: {}", -10),
    "no-length": _framed(b"Connection: close"),
    "http10": _framed(b"", version=b"HTTP/1.0"),
    "two-lengths": _framed(b"Content-Length: {}\r\nContent-Length: 5"),
    "bad-length": _framed(b"Content-Length: lots"),
    "chunk-long": _chunked(7, b"0\r\n\r\n"),
    "chunk-short": _chunked(-7, b"0\r\n\r\n"),
    "chunk-no-end": _chunked(None, b""),
    "trailers": _chunked(None, b"0\r\nX-Sum: 1\r\n\r\n"),
    "continue": _before(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "hints": _before(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"),
    "switch": _instead(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"),
    "page": _instead(_page(502)),
    "page-ok": _instead(_page(200)),
    "json-page": _instead(_page(200, b"application/json")),
    "empty-ok": _instead(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "line-feeds": lambda client, answer: _whole(
        client,
        answer.partition(HEAD)[0].replace(b"\r\n", b"\n") + b"\n\n" + answer.partition(HEAD)[2],
    ),
    "noise": _instead(b"\x16\x03\x01\x02\x00" * 40),
    "compressed": _framed(b"Content-Encoding: gzip\r\nContent-Length: {}"),
    "endless-head": _instead(b"HTTP/1.1 200 OK\r\n" + b"X-More: %s\r\n" % (b"a" * 4000) * 100),
}

if __name__ == "__main__":
    main()
