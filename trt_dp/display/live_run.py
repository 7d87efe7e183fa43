"""A live view of a run on a terminal."""

from __future__ import annotations

from typing_extensions import Self

from trt_dp.coordinator.job import Snapshot
from trt_dp.coordinator.record.recorder import status_of
from trt_dp.display.lines import megabytes
from trt_dp.display.live import LiveView


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
