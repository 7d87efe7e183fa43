"""The truth on disk: answers appended as they come, found again after a crash, exported in order.

The file is a magic line and then blocks, each written at once:
    header (magic, count, bytes of lines, checksum) | RECORDs | lines
A block that is not whole and right ends the journal: it and what follows is dropped on opening.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from trt_dp.errors import FolderError, JournalError
from trt_dp.system import safe_files
from trt_dp.types import RECORD, Records

_MAGIC = b"trt-dp journal 2\n"
_BLOCK = struct.Struct("<4sIQI")
_BLOCK_MAGIC = b"blk\n"
_WINDOW = 1 << 18
_PIECE = 1 << 23

Mask = NDArray[np.bool_]


class Journal:
    """Which requests are settled, answered or failed, and where their lines lie."""

    def __init__(self, path: Path, requests: int) -> None:
        self._path = path
        self._offset = np.full(requests, -1, np.int64)
        self._length = np.zeros(requests, np.int32)
        self.failed: Mask = np.zeros(requests, np.bool_)
        self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b", buffering=0)
        self._end = 0
        self.dropped_bytes = 0
        try:
            self._recover()
        except BaseException:
            self._file.close()
            raise

    @property
    def settled(self) -> Mask:
        """True for every request that has its one answer or failure."""
        return self._offset >= 0

    def append(self, records: Records, lines: bytes) -> None:
        """Settle these requests; on any error the journal on disk stays what it was before."""
        packed = records.tobytes()
        header = _header(len(records), packed, lines)
        try:
            self._write([header, packed, lines])
        except OSError as error:
            self._cut_back()
            msg = (
                f"cannot write {self._path}: {error.strerror}; what was answered before is kept: "
                "see to that and run the same command again"
            )
            raise JournalError(msg) from error
        self._note(records, self._end + len(header) + len(packed))
        self._end += len(header) + len(packed) + len(lines)

    def export(self, path: Path, selected: Mask) -> int:
        """Write the lines of the selected requests to `path` in order, all or nothing; returns how many."""
        chosen = np.flatnonzero(selected & self.settled)
        try:
            with safe_files.atomic_write(path, buffering=_PIECE, sync=True) as out:
                for first in range(0, len(chosen), _WINDOW):
                    self._copy(chosen[first : first + _WINDOW], out)
        except OSError as error:
            msg = (
                f"cannot write {path}: {error.strerror}; the journal is kept: "
                "see to that and run the same command again"
            )
            raise JournalError(msg) from error
        return len(chosen)

    def line(self, index: int) -> bytes:
        """The line of one settled request."""
        return os.pread(self._file.fileno(), int(self._length[index]), int(self._offset[index]))

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _write(self, parts: list[bytes]) -> None:
        """One system call as a rule; a disk that takes only a part of it is asked for the rest, and says why not."""
        fd, wanted = self._file.fileno(), sum(map(len, parts))
        written = os.writev(fd, parts)
        if written < wanted:
            rest = memoryview(b"".join(parts))[written:]
            while rest:
                rest = rest[os.write(fd, rest) :]

    def _cut_back(self) -> None:
        os.ftruncate(self._file.fileno(), self._end)
        os.lseek(self._file.fileno(), self._end, os.SEEK_SET)

    def _note(self, records: Records, lines_at: int) -> None:
        """Remember where these lines lie; the first answer to a request is the one that counts."""
        lengths = records["length"].astype(np.int64)
        starts = lines_at + np.cumsum(lengths) - lengths
        index = records["index"]
        fresh = self._offset[index] < 0
        if not fresh.all():
            index, starts, records = index[fresh], starts[fresh], records[fresh]
        self._offset[index] = starts
        self._length[index] = records["length"]
        self.failed[index] = records["failed"]

    def _recover(self) -> None:
        fd = self._file.fileno()
        size = os.fstat(fd).st_size
        if size == 0:
            os.write(fd, _MAGIC)
            size = len(_MAGIC)
        elif os.pread(fd, len(_MAGIC), 0) not in (_MAGIC, _MAGIC[:size]):
            msg = f"{self._path} is no journal of this version: choose another folder, or start over with --fresh"
            raise FolderError(msg)
        self._end = len(_MAGIC)
        for records, length in self._blocks(size):
            self._note(records, self._end + _BLOCK.size + records.nbytes)
            self._end += _BLOCK.size + records.nbytes + length
        self.dropped_bytes = max(0, size - self._end)
        if size < len(_MAGIC):
            os.pwrite(fd, _MAGIC, 0)
        self._cut_back()

    def _blocks(self, size: int) -> Iterator[tuple[Records, int]]:
        """The whole and right blocks from `_end` on, as their records and the bytes of their lines."""
        with open(self._path, "rb", buffering=_PIECE) as file:  # noqa: PTH123 - buffering is the point
            file.seek(self._end)
            while header := _parse_header(file.read(_BLOCK.size)):
                count, length, checksum = header
                if size - file.tell() < count * RECORD.itemsize + length:
                    return
                body = file.read(count * RECORD.itemsize + length)
                records = np.frombuffer(body, RECORD, count)
                if zlib.crc32(body) != checksum or not self._fits(records, length):
                    return
                yield records, length

    def _fits(self, records: Records, length: int) -> bool:
        index = records["index"]
        inside = bool(len(index)) and index.min() >= 0 and index.max() < len(self._offset)
        whole = inside and records["length"].min() > 0
        return whole and int(records["length"].sum()) == length

    def _copy(self, chosen: NDArray[np.int64], out: BinaryIO) -> None:
        """Copy lines in this order, neighbours in the journal at one go."""
        start, length = self._offset[chosen], self._length[chosen].astype(np.int64)
        stop = start + length
        breaks = np.flatnonzero(start[1:] != stop[:-1]) + 1
        firsts = np.concatenate(([0], breaks)).tolist()
        lasts = np.concatenate((breaks - 1, [len(chosen) - 1])).tolist()
        fd = self._file.fileno()
        for first, last in zip(firsts, lasts, strict=True):
            _copy_range(fd, int(start[first]), int(stop[last]), out.write)


def is_empty(path: Path) -> bool:
    """Whether no request was ever settled there."""
    return not path.exists() or path.stat().st_size <= len(_MAGIC)


def _copy_range(fd: int, start: int, stop: int, write: Callable[[bytes], int]) -> None:
    while start < stop:
        piece = os.pread(fd, min(_PIECE, stop - start), start)
        if not piece:
            msg = "the journal was shortened while it was read"
            raise OSError(0, msg)
        write(piece)
        start += len(piece)


def _header(count: int, packed: bytes, lines: bytes) -> bytes:
    checksum = zlib.crc32(lines, zlib.crc32(packed))
    return _BLOCK.pack(_BLOCK_MAGIC, count, len(lines), checksum)


def _parse_header(header: bytes) -> tuple[int, int, int] | None:
    if len(header) < _BLOCK.size:
        return None
    magic, count, length, checksum = _BLOCK.unpack(header)
    return (count, length, checksum) if magic == _BLOCK_MAGIC else None
