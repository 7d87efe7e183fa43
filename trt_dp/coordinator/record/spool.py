"""Rows of what was answered: the latest in memory, all earlier ones in a file that goes when the process goes."""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from trt_dp.errors import WriteError
from trt_dp.types import Records

PART = 1 << 17  # as many are in memory at once, about
ROW = np.dtype(
    [
        ("sent_at", "<f8"),
        ("answered_at", "<f8"),
        ("before", "<f8"),
        ("queue_seconds", "<f4"),
        ("first_token_seconds", "<f4"),
        ("total_seconds", "<f4"),
        ("input_tokens", "<u4"),
        ("output_tokens", "<u4"),
        ("worker", "<u4"),
        ("failed", "?"),
        ("again", "?"),
    ]
)
"""One answer, by the coordinator's clock; `before` is when its worker's answers before it came."""
_TOLD = (
    *("queue_seconds", "first_token_seconds", "total_seconds"),
    *("input_tokens", "output_tokens", "failed"),
)

Rows = NDArray[np.void]


class Came(Struct, frozen=True):
    """A message of answers: from whom, when, and per answer when it was sent and whether for a second time."""

    worker: int
    moment: float
    before: float
    sent_at: list[float]
    again: list[bool] | bool
    records: Records


class Spool:
    """Rows are added in the order in which they come, and read in it as often as wanted."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._file: IO[bytes] | None = None
        self._counts: list[int] = []  # of the parts in the file
        self._latest = np.empty(0, ROW)
        self._held = 0  # rows of the latest

    @property
    def in_memory(self) -> bool:
        """Whether no row is in the file."""
        return not self._counts

    def add(self, came: Came) -> None:
        """Add the rows of a message; raises WriteError where the disk takes no more."""
        stop = self._held + len(came.records)
        if stop > len(self._latest):
            self._put_away()
            self._latest = np.empty(max(PART, len(came.records)), ROW)
            stop = len(came.records)
        _fill(self._latest[self._held : stop], came)
        self._held = stop

    def parts(self) -> Iterator[Rows]:
        """All rows, part by part."""
        place = 0
        for count in self._counts:
            yield self._read(count, place)
            place += count * ROW.itemsize
        if self._held:
            yield self._latest[: self._held]

    def _put_away(self) -> None:
        rows = self._latest[: self._held]
        if not len(rows):
            return
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115
                weakref.finalize(self, self._file.close)
            _write(self._file.fileno(), rows.data.cast("B"))
        except OSError as error:
            msg = (
                f"cannot write in {self._folder}: {error.strerror}. All answers are saved. "
                "Free some space, then repeat the command to resume"
            )
            raise WriteError(msg) from error
        self._counts.append(len(rows))
        self._held = 0

    def _read(self, count: int, place: int) -> Rows:
        if self._file is None:
            return np.empty(0, ROW)
        return np.frombuffer(os.pread(self._file.fileno(), count * ROW.itemsize, place), ROW)


def _fill(rows: Rows, came: Came) -> None:
    """The rows of a message."""
    for name in _TOLD:
        rows[name] = came.records[name]
    rows["sent_at"], rows["again"] = came.sent_at, came.again
    rows["worker"], rows["answered_at"], rows["before"] = came.worker, came.moment, came.before


def _write(file: int, content: memoryview) -> None:
    left = content
    while left:
        left = left[os.write(file, left) :]
