"""The own server in a thread of the test, and a client that shows what it says."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from msgspec import structs

from trt_dp.errors import TrtDpError
from trt_dp.serving.own import server
from trt_dp.serving.own.settings import Settings
from trt_dp.types import EngineSpec
from trt_dp.worker.serve import load

JSON = {"Content-Type": "application/json"}


class Client:
    """Talks to a server on a port of this machine."""

    def __init__(self, port: int, ended: list[TrtDpError]) -> None:
        self.port = port
        self.ended = ended  # why the server ended, if not because it was told to

    def call(
        self, path: str, body: object = None, method: str | None = None, headers: Any = None
    ) -> tuple[int, Any, dict[str, str]]:
        """The status, the decoded body, and the headers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection.request(
            method or ("GET" if body is None else "POST"),
            path,
            data,
            JSON if headers is None else headers,
        )
        with connection.getresponse() as response:
            said = response.read()
            kind = response.headers["Content-Type"]
            found = json.loads(said) if kind.startswith("application/json") else said.decode()
            status, got = response.status, dict(response.headers)
        connection.close()
        return status, found, got

    def complete(self, **fields: Any) -> dict[str, Any]:
        """The body of a completion that must succeed."""
        status, body, _ = self.call("/v1/completions", fields)
        assert status == 200, body
        return body

    def events(self, path: str = "/v1/completions", **fields: Any) -> list[Any]:
        """The events of a stream, which must end as one should."""
        status, said, headers = self.call(path, {**fields, "stream": True})
        assert status == 200, said
        assert headers["Content-Type"].startswith("text/event-stream")
        lines = [line.removeprefix("data: ") for line in said.split("\n\n") if line]
        assert lines.pop() == "[DONE]"
        return [json.loads(line) for line in lines]

    def metric(self, name: str) -> float:
        """One number of /metrics."""
        _, text, _ = self.call("/metrics")
        found = [line for line in text.splitlines() if line.startswith(name)]
        return float(found[0].split()[-1]) if found else 0.0

    def raw(self) -> socket.socket:
        """A connection for a client that does what a library would not."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)


@contextmanager
def serving(
    folder: object = None, engine: str = "echo", limits: Any = None, **options: object
) -> Iterator[Client]:
    """A server of this engine on a free port while the block lasts."""
    texts = {name: str(value) for name, value in options.items()}
    spec = EngineSpec(engine, None if folder is None else str(folder), texts)
    settings = Settings(engine=spec, model="m", port=0)
    if limits is not None:
        settings = structs.replace(settings, limits=limits)
    loop = asyncio.new_event_loop()
    over: server.Over = loop.create_future()
    listening = server.bound("127.0.0.1", 0)
    listening.listen()  # so that clients wait while it loads
    ended: list[TrtDpError] = []

    def live() -> None:
        try:
            engine = load(spec, settings.placement)
            loop.run_until_complete(server.run(settings, listening, engine, over))
        except TrtDpError as error:
            ended.append(error)
        loop.run_until_complete(loop.shutdown_default_executor())

    thread = threading.Thread(target=live)
    thread.start()
    client = Client(listening.getsockname()[1], ended)
    try:
        yield client
    finally:
        loop.call_soon_threadsafe(server.end, over)
        thread.join(60)
        assert not thread.is_alive()
        loop.close()
        listening.close()
