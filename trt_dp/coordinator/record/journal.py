"""The answers on disk: appended as they come, found again after a crash, exported in order.

The file is a magic line and then blocks, each written at once:
    header (magic, count, bytes of lines, checksum) | RECORDs | lines
A block that is incomplete or damaged ends the journal: it and what follows is dropped on opening.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from trt_dp.coordinator.record.compact import Compact, Offsets
from trt_dp.errors import FolderError, JournalError
from trt_dp.system import safe_files
from trt_dp.types import END_OF_LINE, RECORD, Records

_MAGIC = b"trt-dp journal 3\n"
_BLOCK = struct.Struct("<4sIQI")
_BLOCK_MAGIC = b"blk\n"
_WINDOW = 1 << 18
_PIECE = 1 << 20

Mask = NDArray[np.bool_]
Indices = NDArray[np.int64]


class Exported(Struct, frozen=True):
    """How many lines were exported, and the sha256 of what they are without timing: the same for every run."""

    requests: int
    sha256: str


class Journal:
    """Which requests are completed, which of them failed, and where their lines are in the file."""

    def __init__(self, path: Path, requests: int) -> None:
        self._path = path
        self._offset = Offsets(requests)
        self._length = Compact(requests)
        self._timing_length = Compact(requests)
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
    def completed(self) -> Mask:
        """True for every request that has its one answer or failure."""
        return self._length.nonzero()

    def append(self, records: Records, lines: bytes) -> None:
        """Complete these requests; on any error the journal on disk stays as it was before."""
        packed = records.tobytes()
        header = _header(len(records), packed, lines)
        try:
            self._write([header, packed, lines])
        except OSError as error:
            self._cut_back()
            msg = (
                f"cannot write {self._path}: {error.strerror}. All earlier answers are saved. "
                "Fix the cause, then repeat the command to resume"
            )
            raise JournalError(msg) from error
        self._note(records, self._end + len(header) + len(packed))
        self._end += len(header) + len(packed) + len(lines)

    def export(self, path: Path, selected: Mask) -> Exported:
        """Write the lines of the selected requests to `path` in order, all or nothing."""
        chosen, digest = selected & self.completed, hashlib.sha256()
        try:
            with safe_files.atomic_write(path, buffering=_PIECE, sync=True) as out:
                for window in self._windows(chosen):
                    lines = self._read(window)
                    out.write(lines)
                    digest.update(self._without_timing(window, lines))
        except OSError as error:
            msg = (
                f"cannot write {path}: {error.strerror}. The journal keeps all answers. "
                "Fix the cause, then repeat the command"
            )
            raise JournalError(msg) from error
        return Exported(int(chosen.sum()), digest.hexdigest())

    def line(self, index: int) -> bytes:
        """The line of one completed request."""
        return os.pread(self._file.fileno(), int(self._length[index]), int(self._offset[index]))

    def lengths(self, indices: Indices) -> Indices:
        """How long the lines of these requests are."""
        return self._length[indices]

    def lines(self, indices: Indices) -> list[bytes]:
        """The lines of these completed requests."""
        text, lengths = self._read(indices), self._length[indices]
        ends = np.cumsum(lengths)
        starts = ends - lengths
        return [text[a:b] for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, parts: list[bytes]) -> None:
        """Usually one system call; if the disk took only a part, write the rest, which says what is wrong."""
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
        """Remember where these lines are; the first answer to a request counts."""
        lengths = records["length"].astype(np.int64)
        starts = lines_at + np.cumsum(lengths) - lengths
        index = records["index"]
        fresh = self._length[index] == 0
        if not fresh.all():
            index, starts, records = index[fresh], starts[fresh], records[fresh]
        self._offset.put(index, starts)
        self._length.put(index, records["length"])
        self._timing_length.put(index, records["timing_length"])
        if records["failed"].any():  # memory that nothing is written to is none
            self.failed[index] = records["failed"]

    def _recover(self) -> None:
        fd = self._file.fileno()
        size = os.fstat(fd).st_size
        if size == 0:
            os.write(fd, _MAGIC)
            size = len(_MAGIC)
        elif os.pread(fd, len(_MAGIC), 0) not in (_MAGIC, _MAGIC[:size]):
            msg = f"{self._path} is from another version of trt-dp. Choose another folder, or start over with --fresh"
            raise FolderError(msg)
        self._end = len(_MAGIC)
        for records, length in _blocks(self._path, size, self._end, len(self.failed)):
            self._note(records, self._end + _BLOCK.size + records.nbytes)
            self._end += _BLOCK.size + records.nbytes + length
        self.dropped_bytes = max(0, size - self._end)
        if size < len(_MAGIC):
            os.pwrite(fd, _MAGIC, 0)
        self._cut_back()

    def _windows(self, chosen: Mask) -> Iterator[Indices]:
        """These requests in parts whose lines have the size of a piece; one line may be larger."""
        for first in range(0, len(chosen), _WINDOW):
            window = first + np.flatnonzero(chosen[first : first + _WINDOW])
            if not len(window):
                continue
            pieces = np.cumsum(self._length[window]) // _PIECE
            yield from np.split(window, np.flatnonzero(np.diff(pieces)) + 1)

    def _read(self, window: Indices) -> bytes:
        """Lines in this order; neighbours in the journal are read together."""
        starts, lengths = self._offset[window], self._length[window]
        stops = starts + lengths
        breaks = np.flatnonzero(starts[1:] != stops[:-1]) + 1
        firsts = starts[np.concatenate(([0], breaks))].tolist()
        lasts = stops[np.concatenate((breaks - 1, [-1]))].tolist()
        fd, ranges = self._file.fileno(), zip(firsts, lasts, strict=True)
        lines = b"".join([os.pread(fd, last - first, first) for first, last in ranges])
        if len(lines) != int(lengths.sum(dtype=np.int64)):
            msg = "the journal was shortened while it was read"
            raise OSError(0, msg)
        return lines

    def _without_timing(self, window: Indices, lines: bytes) -> bytes:
        """These lines as they are in every run: each without its timing, which is just before its end."""
        timings = self._timing_length[window]
        if not timings.any():
            return lines
        lengths = self._length[window]
        ends = np.cumsum(lengths)
        starts = (ends - lengths).tolist()
        stops = (ends - timings - len(END_OF_LINE)).tolist()
        kept = [lines[start:stop] for start, stop in zip(starts, stops, strict=True)]
        return END_OF_LINE.join([*kept, b""])


def read_records(path: Path, requests: int) -> Iterator[Records]:
    """The records of another run's journal, which stays as it is."""
    size = path.stat().st_size if path.is_file() else 0
    for records, _ in _blocks(path, size, len(_MAGIC), requests) if size else ():
        yield records


def _blocks(path: Path, size: int, start: int, requests: int) -> Iterator[tuple[Records, int]]:
    """The intact blocks from `start` on, as their records and the bytes of their lines."""
    with path.open("rb", buffering=_PIECE) as file:
        file.seek(start)
        while header := _parse_header(file.read(_BLOCK.size)):
            count, length, checksum = header
            if size - file.tell() < count * RECORD.itemsize + length:
                return
            body = file.read(count * RECORD.itemsize + length)
            records = np.frombuffer(body, RECORD, count)
            if zlib.crc32(body) != checksum or not _fits(records, length, requests):
                return
            yield records, length


def _fits(records: Records, length: int, requests: int) -> bool:
    index = records["index"]
    inside = bool(len(index)) and index.min() >= 0 and index.max() < requests
    whole = inside and records["length"].min() > 0
    return whole and int(records["length"].sum()) == length


def is_empty(path: Path) -> bool:
    """Whether no request was ever completed in this journal."""
    return not path.exists() or path.stat().st_size <= len(_MAGIC)


def _header(count: int, packed: bytes, lines: bytes) -> bytes:
    checksum = zlib.crc32(lines, zlib.crc32(packed))
    return _BLOCK.pack(_BLOCK_MAGIC, count, len(lines), checksum)


def _parse_header(header: bytes) -> tuple[int, int, int] | None:
    if len(header) < _BLOCK.size:
        return None
    magic, count, length, checksum = _BLOCK.unpack(header)
    return (count, length, checksum) if magic == _BLOCK_MAGIC else None
