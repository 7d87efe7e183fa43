"""Progress as lines of a log on stderr, one every ten seconds; light, because most runs need nothing else."""

from __future__ import annotations

import sys
import time

from typing_extensions import Self

from trt_dp.system.safe_text import plain

_LINE_SECONDS = 10.0


class Lines:
    """Lines for a log, on stderr unless they are the result."""

    def __init__(self, *, stdout: bool = False) -> None:
        self._stdout = stdout
        self._printed = time.monotonic()

    def __enter__(self) -> Self:
        """Nothing to begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to end."""

    def say(self, text: str) -> None:
        """Print a line."""
        out = sys.stdout if self._stdout else sys.stderr
        out.write(f"{plain(text)}\n")
        out.flush()

    def print(self, text: str) -> None:
        """Print a line now, and the next one in ten seconds."""
        self._printed = time.monotonic()
        self.say(text)

    def due(self) -> bool:
        """Whether the last line is ten seconds old."""
        return time.monotonic() - self._printed >= _LINE_SECONDS

    def update(self, what: str, done: int, total: int, facts: str) -> None:  # noqa: ARG002 - a line has no bar
        """Print how far `what` is, every ten seconds."""
        if self.due():
            self._printed = time.monotonic()
            self.say(f"{what}: {facts}" if facts else what)


def of_total(done: int, total: int, unit: str) -> str:
    """`3 of 10 requests`, or `3 requests` if the total is unknown."""
    return f"{done:,} of {total:,} {unit}" if total else f"{done:,} {unit}"


def megabytes(done: int, total: int) -> str:
    """`3 of 10 MB`, or nothing if the size is unknown."""
    return f"{done / 1e6:,.0f} of {total / 1e6:,.0f} MB" if total else ""
