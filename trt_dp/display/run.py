"""What a person sees of a run while it works: lines, and what a run may ask for besides is loaded when it does."""

from __future__ import annotations

import os
import sys
from typing import Protocol

from typing_extensions import Self

from trt_dp.coordinator.job import Display, Snapshot
from trt_dp.coordinator.record.event_log import Status
from trt_dp.coordinator.record.recorder import status_of
from trt_dp.display.lines import Lines, megabytes
from trt_dp.display.pace import Speeds, summary

_FORCED = {"FORCE_COLOR", "TTY_COMPATIBLE"}


class AnyDisplay(Display, Protocol):
    """A display of a run that is opened and closed."""

    def __enter__(self) -> Self:
        """Begin to show."""

    def __exit__(self, *_: object) -> None:
        """Stop showing."""


class PlainRun:
    """Lines for a log: what happened, and now and then how far the run is."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._speeds = Speeds()

    def __enter__(self) -> Self:
        """Nothing to begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to end."""

    def say(self, text: str) -> None:
        """Print a line."""
        self._lines.say(text)

    def indexing(self, done: int, total: int) -> None:
        """Tell now and then how much of the dataset is checked."""
        self._lines.update("checking", done, total, megabytes(done, total))

    def show(self, snapshot: Snapshot) -> None:
        """Tell now and then how far the run is."""
        if self._lines.due():
            self.tell(status_of(snapshot))

    def tell(self, status: Status) -> None:
        """Print how far a run is."""
        speed = sum(self._speeds.update(status))
        self._lines.update("running", status.completed, status.requests, summary(status, speed))


def on_stderr(*, plain: bool = False, metrics: tuple[str, int | None] = ("", None)) -> AnyDisplay:
    """A live view on a terminal, lines elsewhere or where they are asked for; and metrics on a host and port."""
    shown = _live() if not plain and _may_be_terminal() else PlainRun(Lines())
    host, port = metrics
    if port is None:
        return shown
    from trt_dp.display.metrics import WithMetrics

    serving = WithMetrics(shown, host, port)
    shown.say(f"metrics: http://{host}:{serving.port}/metrics")
    return serving


def _may_be_terminal() -> bool:
    """Whether stderr is a terminal, or is said to be one in a way that rich knows."""
    return sys.stderr.isatty() or not _FORCED.isdisjoint(os.environ)


def _live() -> AnyDisplay:
    from rich.console import Console

    from trt_dp.display.live import LiveView
    from trt_dp.display.live_run import LiveRun

    console = Console(stderr=True)
    return LiveRun(LiveView(console)) if console.is_terminal else PlainRun(Lines())
