"""What a person sees of a run while it works."""

from __future__ import annotations

import math
import time

from typing_extensions import Self

from trt_dp.coordinator.job import Snapshot
from trt_dp.display import progress
from trt_dp.display.progress import Bar, Lines, megabytes, of_total

_LEAST_SECONDS = 0.2


class RunDisplay:
    """Shows the check of the dataset, and then the requests, the speed and the workers."""

    def __init__(self, shown: Bar | Lines) -> None:
        self._progress = shown
        self._ready_since = math.inf

    def __enter__(self) -> Self:
        """Begin to show."""
        self._progress.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop showing."""
        self._progress.__exit__()

    def say(self, text: str) -> None:
        """Print a line."""
        self._progress.say(text)

    def indexing(self, done: int, total: int) -> None:
        """Show how much of the dataset is checked."""
        self._progress.update("checking", done, total, megabytes(done, total))

    def show(self, snapshot: Snapshot) -> None:
        """Show how far the run is."""
        done, total = snapshot.completed, snapshot.requests
        facts = f"{of_total(done, total, 'requests')}, {_facts(snapshot, self._speed(snapshot))}"
        self._progress.update("running", done, total, facts)

    def _speed(self, snapshot: Snapshot) -> float:
        """Output tokens per second since a worker was ready."""
        now = time.monotonic()
        if snapshot.ready:
            self._ready_since = min(self._ready_since, now)
        return snapshot.output_tokens / max(_LEAST_SECONDS, now - self._ready_since)


def on_stderr() -> RunDisplay:
    """A bar that stays on a terminal, lines elsewhere."""
    return RunDisplay(progress.on_stderr(passing=False))


def _facts(snapshot: Snapshot, speed: float) -> str:
    parts = [f"{speed:,.0f} tok/s", f"{snapshot.ready}/{snapshot.workers} workers"]
    if snapshot.deaths:
        parts.append(f"{snapshot.deaths} deaths")
    if snapshot.failed:
        parts.append(f"{snapshot.failed:,} failed")
    return ", ".join(parts)
