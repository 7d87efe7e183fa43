"""The request store: one record a request, JSON of all but its ids, then its ids as 32-bit numbers.

A dataset is read into it once, whatever its format, so that workers never parse ids. Several processes may
append to one store.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

import numpy as np

from trt_dp.dataset.fields import Fields, from_json
from trt_dp.dataset.piece import Gathering, Piece
from trt_dp.errors import BadLine, WriteError

NAME = "requests.store"
PARTIAL = ".requests.store.partial"
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
_INT32 = np.dtype("<i4")


class Store:
    """A store that is being written; without a path, rows are only counted."""

    def __init__(self, path: Path | None, *, new: bool = False) -> None:
        self.path = path
        if path and new:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
        self._file = None if path is None else os.open(path, _FLAGS, 0o600)

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
            _write(self._file, rows.content)
        except OSError as error:
            msg = f"cannot write {self.path}: {error.strerror}. Free some space, or choose another --output"
            raise WriteError(msg) from error
        else:
            return start
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)


def _write(file: int, content: bytearray) -> None:
    """Usually one system call; if the disk took only a part, write the rest, which says what is wrong."""
    with memoryview(content) as whole:
        written = 0
        while written < len(whole):
            written += os.write(file, whole[written:])


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
