"""A server on the loopback that says, byte for byte, what a test wrote; it proves nothing about any real server."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading

WAIT = 20


class Visit:
    """One connection: `request()` reads the next request, `say` sends bytes as they are."""

    def __init__(self, sock: socket.socket, number: int) -> None:
        self._sock, self.number, self._rest = sock, number, b""

    def request(self) -> bytes:
        """The next request, head and body; empty once the client is gone."""
        while not self._whole():
            data = self._sock.recv(1 << 16)
            if not data:
                return b""
            self._rest += data
        size = self._whole()
        found, self._rest = self._rest[:size], self._rest[size:]
        return found

    def head(self) -> bytes:
        """The head of the next request alone; its body is left unread."""
        while b"\r\n\r\n" not in self._rest:
            self._rest += self._sock.recv(1024)
        return self._rest

    def say(self, *pieces: bytes) -> None:
        for piece in pieces:
            self._sock.sendall(piece)

    def answer(self, body: bytes = b"{}", status: int = 200, headers: str = "") -> None:
        self.say(
            f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\n{headers}\r\n".encode() + body
        )

    def _whole(self) -> int:
        head, found, _ = self._rest.partition(b"\r\n\r\n")
        if not found:
            return 0
        length = head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]
        size = len(head) + 4 + int(length or 0)
        return size if len(self._rest) >= size else 0


class ScriptedServer:
    """Runs `script(visit)` for each connection, in a thread; `url` is where it listens."""

    def __init__(self, script, context: ssl.SSLContext | None = None) -> None:
        self._script, self._context = script, context
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self.port}"
        self.visits = 0
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._server.accept()
                sock.settimeout(WAIT)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.visits += 1
                thread = threading.Thread(target=self._serve, args=(sock, self.visits), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError):
            wrapped = self._context.wrap_socket(sock, server_side=True) if self._context else sock
            with wrapped:
                self._script(Visit(wrapped, number))
        sock.close()

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for thread in self._threads:
            thread.join(WAIT)
