"""Shows a run of another process, from the files that it leaves in its folder."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from rich.console import Console

from trt_dp.coordinator.record.event_log import Status, read_events, read_status
from trt_dp.display.lines import Lines
from trt_dp.display.live import LiveView
from trt_dp.display.pace import Speeds, summary
from trt_dp.errors import UsageError

_LOOK_SECONDS = 0.5
_SILENT_SECONDS = 30.0
_LATEST = 4


def watch(folder: Path, *, plain: bool, once: bool = False) -> None:
    """Show a run until it has ended; raises UsageError where there is none."""
    console = Console(stderr=not once)  # one line for a script is the result
    if read_status(folder) is None and not (folder / "events.jsonl").exists():
        msg = f"{folder} has no run to watch: it has neither status.json nor events.jsonl"
        raise UsageError(msg)
    if plain or once or not console.is_terminal:
        _lines(folder, Lines(stdout=once), once=once)
        return
    with LiveView(console) as view:
        _draw(folder, view)


def _draw(folder: Path, view: LiveView) -> None:
    watched = _Watched(folder)
    while True:
        status = watched.look()
        if status:
            view.notes(watched.latest())
            view.draw(status)
            if status.ended:
                return
        time.sleep(_LOOK_SECONDS)


def _lines(folder: Path, lines: Lines, *, once: bool) -> None:
    watched, speeds = _Watched(folder), Speeds()
    while True:
        status = watched.look()
        if status and (once or status.ended or lines.due()):
            speed = sum(speeds.update(status))
            lines.print(f"{status.ended or 'running'}: {summary(status, speed)}{watched.silence()}")
        if once or (status and status.ended):
            return
        time.sleep(_LOOK_SECONDS)


class _Watched:
    """The files of a run, and since when they have not changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._updated = ""
        self._changed = time.monotonic()

    def look(self) -> Status | None:
        """How far it is now."""
        status = read_status(self._folder)
        if status and status.updated_utc != self._updated:
            self._updated, self._changed = status.updated_utc, time.monotonic()
        return status

    def silence(self) -> str:
        """A remark on a run that has said nothing for long; clocks of two machines are not compared."""
        quiet = time.monotonic() - self._changed
        return f", no news for {quiet:.0f} s: was it killed?" if quiet > _SILENT_SECONDS else ""

    def latest(self) -> list[str]:
        """The last events, in words."""
        told = [
            text for event in read_events(self._folder / "events.jsonl") if (text := _told(event))
        ]
        silent = self.silence()
        return [*told[-_LATEST:], *([silent.removeprefix(", ")] if silent else [])]


def _told(event: dict[str, Any]) -> str:
    """An event as a line; empty for one that the picture shows anyway."""
    at = event.get("at_seconds")
    when = f"{at:,.0f} s: " if isinstance(at, (int, float)) else ""
    if event.get("event") == "remark":
        return f"{when}{event.get('text', '')}"
    return ""
