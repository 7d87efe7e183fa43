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
        self._latest: list[Came] = []
        self._held = 0

    def add(self, came: Came) -> None:
        """Add the rows of a message; raises WriteError where the disk takes no more."""
        self._latest.append(came)
        self._held += len(came.records)
        if self._held >= PART:
            self._put_away()

    def parts(self) -> Iterator[Rows]:
        """All rows, part by part."""
        place = 0
        for count in self._counts:
            yield self._read(count, place)
            place += count * ROW.itemsize
        if self._latest:
            yield _packed(self._latest)

    def _put_away(self) -> None:
        rows = _packed(self._latest)
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115
                weakref.finalize(self, self._file.close)
            _write(self._file.fileno(), rows.tobytes())
        except OSError as error:
            msg = (
                f"cannot write in {self._folder}: {error.strerror}. All answers are saved. "
                "Free some space, then repeat the command to resume"
            )
            raise WriteError(msg) from error
        self._counts.append(len(rows))
        self._latest, self._held = [], 0

    def _read(self, count: int, place: int) -> Rows:
        if self._file is None:
            return np.empty(0, ROW)
        return np.frombuffer(os.pread(self._file.fileno(), count * ROW.itemsize, place), ROW)


def _packed(messages: list[Came]) -> Rows:
    """The rows of these messages as one array."""
    counts = [len(came.records) for came in messages]
    records = np.concatenate([came.records for came in messages])
    rows = np.empty(len(records), ROW)
    for name in _TOLD:
        rows[name] = records[name]
    rows["sent_at"] = np.concatenate([came.sent_at for came in messages])
    rows["again"] = np.concatenate(
        [np.broadcast_to(m.again, n) for m, n in zip(messages, counts, strict=True)]
    )
    for name, values in (
        ("worker", [came.worker for came in messages]),
        ("answered_at", [came.moment for came in messages]),
        ("before", [came.before for came in messages]),
    ):
        rows[name] = np.repeat(values, counts)
    return rows


def _write(file: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(file, left) :]
