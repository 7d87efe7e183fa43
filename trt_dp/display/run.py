"""What a person sees of a run while it works."""

from __future__ import annotations

from rich.console import Console
from typing_extensions import Self

from trt_dp.coordinator.job import Snapshot
from trt_dp.coordinator.record.event_log import Status
from trt_dp.coordinator.record.recorder import status_of
from trt_dp.display.live import LiveView, Speeds, summary
from trt_dp.display.metrics import WithMetrics
from trt_dp.display.progress import Lines, megabytes


class LiveRun:
    """A live view of this process's run."""

    def __init__(self, view: LiveView) -> None:
        self._view = view

    def __enter__(self) -> Self:
        """Begin to show."""
        self._view.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop showing."""
        self._view.__exit__()

    def say(self, text: str) -> None:
        """Print a line above the view."""
        self._view.say(text)

    def indexing(self, done: int, total: int) -> None:
        """Show how much of the dataset is checked."""
        self._view.wait(f"checking {megabytes(done, total)}", done, total)

    def show(self, snapshot: Snapshot) -> None:
        """Show how far the run is."""
        if self._view.due() or snapshot.completed == snapshot.requests:
            self._view.draw(status_of(snapshot))


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


def on_stderr(
    *, plain: bool = False, metrics: tuple[str, int | None] = ("", None)
) -> LiveRun | PlainRun | WithMetrics:
    """A live view on a terminal, lines elsewhere or where they are asked for; and metrics on a host and port."""
    console = Console(stderr=True)
    live = console.is_terminal and not plain
    shown = LiveRun(LiveView(console)) if live else PlainRun(Lines(console))
    host, port = metrics
    if port is None:
        return shown
    serving = WithMetrics(shown, host, port)
    shown.say(f"metrics: http://{host}:{serving.port}/metrics")
    return serving
