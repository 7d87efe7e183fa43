"""A server that answers every request at once with the same tokens: the yardstick for clients, on one core at most.

It looks at nothing but the method, the length of the body, whether it asks
for a stream, and of what kind (completion or chat). It is no model of any real
server. At its end it says how many requests came, in which time from the first to the last, and what they cost it.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time

TOKENS = 128
_EVENT = b'data: {"id":"x","object":"text_completion","choices":[{"index":0,"text":" the","finish_reason":%s}]}\n\n'
_CHAT = _EVENT.replace(b'"text":" the"', b'"delta":{"content":" the"}').replace(
    b"text_completion", b"chat.completion.chunk"
)


_USAGE = b'"usage":{"prompt_tokens":64,"completion_tokens":%d,"total_tokens":%d}' % (
    TOKENS,
    TOKENS + 64,
)
_MODELS = b'{"object":"list","data":[{"id":"m","object":"model","created":1,"owned_by":"instant"}]}'


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _answers() -> tuple[bytes, bytes, dict[bytes, tuple[list[bytes], list[bytes]]]]:
    """A completion, the list of models, and streams by the path's end, without usage and with it."""
    body = (
        b'{"id":"x","object":"text_completion","choices":[{"index":0,"text":"%s","finish_reason":"length"}],'
        % (b" the" * TOKENS)
        + _USAGE
        + b"}"
    )
    head = b"HTTP/1.1 200 OK\r\ndate: Sat, 21 Nov 2026 17:00:00 GMT\r\nserver: instant\r\n"
    plain = head + b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
    begin = (
        head
        + b"content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    streams = {b"": _streams(begin, _EVENT), b"/chat": _streams(begin, _CHAT)}
    return _plain(plain, body), _plain(plain, _MODELS), streams


def _streams(begin: bytes, event: bytes) -> tuple[list[bytes], list[bytes]]:
    events = [_chunk(event % b"null") for _ in range(TOKENS - 1)]
    usage = b'data: {"id":"x","object":"text_completion","choices":[],%s}\n\n' % _USAGE
    end = _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
    events.append(_chunk(event % b'"length"'))
    stream = [begin + events[0], *events[1:]]
    return [*stream, end], [*stream, _chunk(usage) + end]


def _plain(form: bytes, body: bytes) -> bytes:
    return form % (len(body), body)


def main() -> None:
    """Print the port, then serve until the standard input ends; `single`: one write per token."""
    unary, models, streams = _answers()
    if "single" not in sys.argv:
        streams = {
            kind: tuple([b"".join(parts)] for parts in both) for kind, both in streams.items()
        }
    server = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print(server.getsockname()[1], flush=True)
    epoll, open_ones, seen = select.epoll(), {}, [0, 0.0, 0.0, 0.0, 0.0]
    for fd in (server.fileno(), sys.stdin.fileno()):
        epoll.register(fd, select.EPOLLIN)
    while True:
        for fd, _ in epoll.poll():
            if fd == sys.stdin.fileno():
                print(json.dumps(_said(seen)), flush=True)
                return
            if fd == server.fileno():
                one, _ = server.accept()
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                open_ones[one.fileno()] = [one, b""]
                epoll.register(one.fileno(), select.EPOLLIN)
            elif not _serve(open_ones[fd], (unary, models, streams), seen):
                open_ones.pop(fd)[0].close()


def _said(seen: list) -> dict[str, float]:
    """Of the requests after the first: how many, in which time, and the CPU time that they took here."""
    count, first, last, cpu_first, cpu_last = seen
    return {
        "requests": max(0, count - 1),
        "seconds": last - first,
        "server_cpu_seconds": cpu_last - cpu_first,
    }


def _count(seen: list) -> None:
    seen[0] += 1
    if seen[0] == 1:
        seen[1], seen[3] = time.monotonic(), time.process_time()
    seen[2], seen[4] = time.monotonic(), time.process_time()


def _serve(state: list, answers: tuple, seen: list) -> bool:
    """Read what is there and answer the requests in it; False once the client is gone."""
    one, (unary, models, streams) = state[0], answers
    try:
        data = one.recv(1 << 18)
        state[1] += data
        while (end := state[1].find(b"\r\n\r\n")) >= 0:
            head = state[1][:end].lower()
            size = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0] or 0)
            if len(state[1]) < end + 4 + size:
                break
            body, state[1] = state[1][end + 4 : end + 4 + size], state[1][end + 4 + size :]
            if not head.startswith(b"post"):
                one.sendall(models.partition(b"{")[0] if head.startswith(b"head") else models)
                continue
            _count(seen)
            said = body.replace(b" ", b"")
            counted = b'"include_usage":true' in said
            kind = b"/chat" if b"/chat/" in head.partition(b"\r\n")[0] else b""
            for part in streams[kind][counted] if b'"stream":true' in said else [unary]:
                one.sendall(part)
    except ConnectionError:
        return False
    return bool(data)


if __name__ == "__main__":
    main()
