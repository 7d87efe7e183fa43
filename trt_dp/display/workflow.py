"""What a person sees of a node's run besides the lines of the workflow."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from rich.console import Console

from trt_dp.coordinator.job import Display, Silent
from trt_dp.display.live import LiveView
from trt_dp.display.live_run import LiveRun


def show(text: str) -> None:
    """Print a line at once, by the stdout of this moment: while there is a live view, that is above it."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


@contextlib.contextmanager
def live(*, plain: bool) -> Iterator[Display]:
    """A live view where stdout and stderr are a terminal; else nothing, since the lines say how far it is."""
    console = Console(stderr=True)
    if plain or not console.is_terminal or not sys.stdout.isatty():
        yield Silent()
        return
    with LiveRun(LiveView(console)) as run:
        yield run
