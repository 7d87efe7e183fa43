"""Progress on stderr: one bar on a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text
from typing_extensions import Self

from trt_dp.system.safe_text import plain

_REDRAW_SECONDS = 0.2
_LINE_SECONDS = 10.0


class Bar:
    """A bar for a person. A passing one disappears at the end, and moves while there is no news."""

    def __init__(self, console: Console, *, passing: bool) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[facts]}", markup=False),
            TimeRemainingColumn(),
            console=console,
            auto_refresh=passing,
            transient=passing,
        )
        self._task = self._progress.add_task("", total=None, facts="", visible=False)
        self._what = ""
        self._drawn = 0.0

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop drawing."""
        self._progress.stop()

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        _print(self._progress.console, text)

    def update(self, what: str, done: int, total: int, facts: str) -> None:
        """Draw how far `what` is, at most five times a second; a total of 0 is unknown."""
        now = time.monotonic()
        if what == self._what and done != total and now - self._drawn < _REDRAW_SECONDS:
            return
        self._what, self._drawn = what, now
        self._progress.update(
            self._task,
            description=plain(what),
            completed=done,
            total=total or None,
            facts=plain(facts),
            visible=True,
        )
        self._progress.refresh()


class Lines:
    """Lines for a log."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._printed = time.monotonic()

    def __enter__(self) -> Self:
        """Nothing to begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to end."""

    def say(self, text: str) -> None:
        """Print a line."""
        _print(self._console, text)

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


def on_stderr(*, passing: bool = True) -> Bar | Lines:
    """A bar on a terminal, lines elsewhere."""
    console = Console(stderr=True)
    return Bar(console, passing=passing) if console.is_terminal else Lines(console)


def of_total(done: int, total: int, unit: str) -> str:
    """`3 of 10 requests`, or `3 requests` if the total is unknown."""
    return f"{done:,} of {total:,} {unit}" if total else f"{done:,} {unit}"


def megabytes(done: int, total: int) -> str:
    """`3 of 10 MB`, or nothing if the size is unknown."""
    return f"{done / 1e6:,.0f} of {total / 1e6:,.0f} MB" if total else ""


def _print(console: Console, text: str) -> None:
    console.print(Text(plain(text)), soft_wrap=True)
