"""What a person sees of servers while they run: a live table on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text
from typing_extensions import Self

from trt_dp.display.pace import clock
from trt_dp.serving.fleet import View
from trt_dp.system.safe_text import plain

_REDRAW_SECONDS = 0.25
_STYLES = {"ready": "green", "silent": "yellow", "ending": "yellow", "retired": "red"}


class LiveServers:
    """A table that is redrawn."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False)
        self._drawn = 0.0

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._live.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop drawing; the last picture stays."""
        self._live.__exit__(None, None, None)

    def say(self, text: str) -> None:
        """Print a line above the table."""
        self._console.print(Text(plain(text)), soft_wrap=True)

    def show(self, views: Sequence[View]) -> None:
        """Show how all are, unless that was shown a moment ago."""
        if time.monotonic() - self._drawn >= _REDRAW_SECONDS:
            self._drawn = time.monotonic()
            self._live.update(Group(table(views)), refresh=True)


class PlainServers:
    """Lines for a log: only what changes."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __enter__(self) -> Self:
        """Nothing to begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to end."""

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(Text(plain(text)), soft_wrap=True)

    def show(self, views: Sequence[View]) -> None:
        """Show nothing."""


def on_stderr(*, plain_: bool = False) -> LiveServers | PlainServers:
    """A live table on a terminal; lines elsewhere, or where they are asked for."""
    console = Console(stderr=True)
    return LiveServers(console) if console.is_terminal and not plain_ else PlainServers(console)


def table(views: Sequence[View]) -> Table:
    """A line for each server."""
    found = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for title in ("server", "URL", "runs on", "state", "for", "restarts", "last death"):
        found.add_column(title, no_wrap=title != "last death")
    for view in views:
        found.add_row(
            view.launch.name,
            view.launch.url,
            plain(view.launch.where),
            Text(view.state, style=_STYLES.get(view.state, "")),
            clock(view.seconds),
            str(view.restarts),
            Text(plain(view.reason), style="dim", overflow="ellipsis", no_wrap=True),
        )
    return found
