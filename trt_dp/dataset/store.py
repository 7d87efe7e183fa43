"""The request store: one record a request, JSON of all but its ids, then its ids as 32-bit numbers.

A dataset is read into it once, whatever its format, so that workers never parse ids. Several processes may
append to one store.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import numpy as np

from trt_dp.dataset.fields import Fields, from_json
from trt_dp.dataset.piece import Gathering, Piece
from trt_dp.errors import BadLine

NAME = "requests.store"
PARTIAL = ".requests.store.partial"
_INT32 = np.dtype("<i4")


class Store:
    """A store that is being written; without a path, rows are only counted."""

    def __init__(self, path: Path | None, *, new: bool = False) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_TRUNC if new else 0)
        self.path = path
        self._file = None if path is None else os.open(path, flags, 0o600)

    def add(self, rows: Gathering, stop: int) -> Piece:
        """Append the records of these rows."""
        return rows.piece(stop, self._append(rows))

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _append(self, rows: Gathering) -> int:
        """Write at the end, alone; returns where that was."""
        if self._file is None:
            return 0
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            start = os.lseek(self._file, 0, os.SEEK_END)
            rest = memoryview(b"".join(rows.records))
            while rest:
                rest = rest[os.write(self._file, rest) :]
            return start
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)


def record(content: bytes, input_tokens: int) -> Fields:
    """The Fields in a record; raises BadLine if it is not one with so many ids."""
    head = len(content) - input_tokens * _INT32.itemsize
    if head < 2:
        msg = "the record is too short for its ids"
        raise BadLine(msg)
    if not input_tokens:
        return from_json(content)
    ids = np.frombuffer(content, _INT32, input_tokens, head)
    return from_json(content[:head], ids.astype(np.int64))
