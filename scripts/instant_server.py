"""A server that answers every request at once with the same tokens: the yardstick for clients, on one core at most.

It looks at nothing but the length of the body and whether it asks for a stream. It is no model of any real server.
"""

from __future__ import annotations

import select
import socket
import sys

TOKENS = 128
_EVENT = b'data: {"id":"x","object":"text_completion","choices":[{"index":0,"text":" the","finish_reason":%s}]}\n\n'


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _answers() -> tuple[bytes, list[bytes]]:
    body = (
        b'{"id":"x","object":"text_completion","choices":[{"index":0,"text":"%s","finish_reason":"length"}],'
        % (b" the" * TOKENS)
        + b'"usage":{"prompt_tokens":64,"completion_tokens":%d,"total_tokens":%d}}'
        % (TOKENS, TOKENS + 64)
    )
    head = b"HTTP/1.1 200 OK\r\ndate: Sat, 21 Nov 2026 17:00:00 GMT\r\nserver: instant\r\n"
    unary = head + b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (
        len(body),
        body,
    )
    begin = (
        head
        + b"content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    events = [_chunk(_EVENT % b"null") for _ in range(TOKENS - 1)]
    events += [_chunk(_EVENT % b'"length"'), _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"]
    return unary, [begin + events[0], *events[1:]]


def main() -> None:
    """Print the port, then serve until the standard input ends; `single`: one write per token."""
    unary, parts = _answers()
    stream = parts if "single" in sys.argv else [b"".join(parts)]
    server = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print(server.getsockname()[1], flush=True)
    epoll, open_ones = select.epoll(), {}
    for fd in (server.fileno(), sys.stdin.fileno()):
        epoll.register(fd, select.EPOLLIN)
    while True:
        for fd, _ in epoll.poll():
            if fd == sys.stdin.fileno():
                return
            if fd == server.fileno():
                one, _ = server.accept()
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                open_ones[one.fileno()] = [one, b""]
                epoll.register(one.fileno(), select.EPOLLIN)
            elif not _serve(open_ones[fd], unary, stream):
                open_ones.pop(fd)[0].close()


def _serve(state: list, unary: bytes, stream: list[bytes]) -> bool:
    """Read what is there and answer the requests in it; False once the client is gone."""
    one = state[0]
    try:
        data = one.recv(1 << 18)
        state[1] += data
        while (end := state[1].find(b"\r\n\r\n")) >= 0:
            head = state[1][:end].lower()
            size = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0] or 0)
            if len(state[1]) < end + 4 + size:
                break
            body, state[1] = state[1][end + 4 : end + 4 + size], state[1][end + 4 + size :]
            for part in stream if b'"stream":true' in body.replace(b" ", b"") else [unary]:
                one.sendall(part)
    except ConnectionError:
        return False
    return bool(data)


if __name__ == "__main__":
    main()
