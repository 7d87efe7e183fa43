"""events.jsonl and status.json: what a run did and how far it is, for programs and for people who watch.

Each line of events.jsonl is one event: a sitting begins or ends, a worker enters a state or dies, a remark, or how
far the run is. Lines are only appended; sittings follow one another in the same file. status.json is replaced whole.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec
from msgspec import Struct

from trt_dp.errors import UNREADABLE
from trt_dp.report.sections import Sitting
from trt_dp.system import safe_files

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_PROGRESS_SECONDS = 10.0
_STATUS_SECONDS = 1.0
_LONGEST_LINE = 1 << 16


class LaneStatus(Struct, frozen=True, kw_only=True):
    """One worker in status.json."""

    worker: int
    state: str
    in_flight: int
    capacity: int
    requests: int
    output_tokens: int
    deaths: int
    kv_fill: float | None = None


class Status(Struct, frozen=True, kw_only=True):
    """The content of status.json: how far a run is."""

    at_seconds: float
    updated_utc: str
    ended: str = ""
    requests: int
    completed: int
    failed: int
    output_tokens: int
    wanted_tokens: int
    wanted_done: int
    serving_seconds: float
    left_seconds: float | None = None
    lanes: list[LaneStatus]


class EventLog:
    """An open event log; if the disk refuses it, the run continues without it and says so once."""

    def __init__(self, folder: Path, began: float) -> None:
        self._status = folder / "status.json"
        self._began = began
        self._progress_at = self._status_at = time.monotonic()
        self.problem = ""
        self._file: int | None = None
        try:
            self._file = os.open(folder / "events.jsonl", _FLAGS, 0o644)
            self._end_line(folder / "events.jsonl")
        except OSError as error:
            self._give_up(error)

    def write(self, event: str, **fields: object) -> None:
        """Append one event."""
        if self._file is None:
            return
        at = round(perf_counter() - self._began, 6)
        line = msgspec.json.encode({"event": event, "at_seconds": at, **fields})
        try:
            os.write(self._file, line + b"\n")
        except OSError as error:
            self._give_up(error)

    def due(self) -> bool:
        """Whether status.json is a second old."""
        return time.monotonic() - self._status_at >= _STATUS_SECONDS

    def show(self, status: Status) -> None:
        """Replace status.json; every ten seconds note in the log too how far the run is."""
        self._status_at = time.monotonic()
        if self._status_at - self._progress_at >= _PROGRESS_SECONDS or status.ended:
            self._progress_at = self._status_at
            self.write(
                "progress",
                completed=status.completed,
                failed=status.failed,
                output_tokens=status.output_tokens,
            )
        try:
            with safe_files.atomic_write(self._status) as file:
                file.write(msgspec.json.encode(status) + b"\n")
        except OSError as error:
            self._give_up(error)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _end_line(self, path: Path) -> None:
        """What a crash cut off must not swallow the next event."""
        with safe_files.look_into(path) as file:
            size = file.seek(0, os.SEEK_END)
            if size and self._file is not None:
                file.seek(size - 1)
                if file.read(1) != b"\n":
                    os.write(self._file, b"\n")

    def _give_up(self, error: OSError) -> None:
        self.problem = self.problem or f"events.jsonl and status.json stop here: {error.strerror}"
        self.close()


def utc_now() -> str:
    """The time as it is written down."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """The events in a log; a line that was cut off is passed over."""
    try:
        file = safe_files.look_into(path)
    except OSError:
        return
    with file:
        while line := file.readline(_LONGEST_LINE):
            if event := _event(line):
                yield event


def _event(line: bytes) -> dict[str, Any]:
    """An event, empty for a line that is none."""
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except UNREADABLE:
        return {}


def read_status(folder: Path) -> Status | None:
    """How far a run is; None where that is not known."""
    try:
        return msgspec.json.decode(safe_files.read(folder / "status.json"), type=Status)
    except (OSError, *UNREADABLE):
        return None


def sittings(events: Iterator[dict[str, Any]], completed: int) -> list[Sitting]:
    """Each time that the command worked on a run, and what it completed; `completed` are all that are now."""
    groups: list[list[dict[str, Any]]] = []
    for event in events:
        if event.get("event") == "sitting":
            groups.append([])
        if groups:
            groups[-1].append(event)
    begun = [_number(group[0].get("completed")) for group in groups]
    after = [*begun[1:], completed][: len(groups)]
    return [
        _sitting(group, later - earlier)
        for group, earlier, later in zip(groups, begun, after, strict=True)
    ]


def _sitting(events: Sequence[dict[str, Any]], completed: int) -> Sitting:
    last = events[-1]
    ended = str(last.get("outcome", "")) if last.get("event") == "end" else "killed"
    return Sitting(
        began_utc=str(events[0].get("utc", "")),
        seconds=_seconds(last.get("at_seconds")),
        completed=completed,
        deaths=sum(event.get("event") == "death" for event in events),
        ended=ended,
    )


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _seconds(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None
