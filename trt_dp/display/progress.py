"""Progress on stderr: one bar on a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text
from typing_extensions import Self

from trt_dp.display.lines import Lines
from trt_dp.system.safe_text import plain

_REDRAW_SECONDS = 0.2


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
        self._progress.console.print(Text(plain(text)), soft_wrap=True)

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


def on_stderr(*, passing: bool = True) -> Bar | Lines:
    """A bar on a terminal, lines elsewhere."""
    console = Console(stderr=True)
    return Bar(console, passing=passing) if console.is_terminal else Lines()
