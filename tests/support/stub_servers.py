"""Servers of OpenAI's API for tests: the double as processes that can be killed, stopped and started again."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

DOUBLE = Path(__file__).parents[1] / "doubles" / "openai_server.py"


class Stub:
    """One server; `port` stays the same when it is started again."""

    def __init__(self, **behaviour: object) -> None:
        self._behaviour = behaviour
        self.port = 0
        self._process: subprocess.Popen | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def runs(self) -> bool:
        """Whether its process lives."""
        return self._process.poll() is None

    def start(self) -> None:
        """Start it, or start it again with what it was told at first."""
        command = [sys.executable, str(DOUBLE), str(self.port), json.dumps(self._behaviour)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.port = int(self._process.stdout.readline())

    def kill(self) -> None:
        self._process.kill()
        self.wait()

    def wait(self) -> None:
        """Until it has ended."""
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()

    def signal(self, number: int) -> None:
        os.kill(self._process.pid, number)

    def behave(self, **behaviour: object) -> None:
        """Change its ways from now on."""
        self._ask("/behave", json.dumps(behaviour).encode())

    def seen(self) -> dict:
        """How much it saw and served."""
        return self._ask("/seen", b"{}")

    def _ask(self, path: str, body: bytes) -> dict:
        with urllib.request.urlopen(self.url + path, body, timeout=20) as reply:  # noqa: S310 - our own URL
            return json.load(reply)

    def close(self) -> None:
        self.kill()


@contextlib.contextmanager
def stubs(count: int, **behaviour: object) -> Iterator[list[Stub]]:
    """Some servers that behave alike; none is left afterwards."""
    found: list[Stub] = []
    try:
        for _ in range(count):
            found.append(Stub(**behaviour))  # noqa: PERF401 - those before one that fails are closed
        yield found
    finally:
        for one in found:
            one.close()
