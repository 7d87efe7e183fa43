"""The dataset as a worker reads it: the same file that the coordinator checked, or none."""

from __future__ import annotations

import os
from pathlib import Path

from trt_dp.errors import DatasetChanged
from trt_dp.types import Source, Spans


class SourceFile:
    """The dataset file on this machine, if it is the one that the coordinator checked."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._file = _open(source)

    @property
    def seen(self) -> bool:
        """Whether this machine sees that file."""
        return self._file is not None

    def read(self, spans: Spans) -> bytes:
        """The lines one after the other; raises DatasetChanged if the file changed since it was checked."""
        if self._file is None:
            raise DatasetChanged(self._source.path)
        found = _read(self._file, spans)
        if not _same(self._file, self._source):  # checked after reading, so no change is missed
            raise DatasetChanged(self._source.path)
        return found


def _open(source: Source) -> int | None:
    try:
        fd = os.open(Path(source.path), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    if _same(fd, source):
        return fd
    os.close(fd)
    return None


def _same(fd: int, source: Source) -> bool:
    found = os.fstat(fd)
    return (found.st_size, found.st_mtime_ns) == (source.size, source.mtime_ns)


def _read(fd: int, spans: Spans) -> bytes:
    """Lines that follow each other in the file, as most do, are read in one call."""
    stops = spans["offset"] + spans["length"]
    if (spans["offset"][1:] == stops[:-1]).all():
        first = int(spans["offset"][0])
        return os.pread(fd, int(stops[-1]) - first, first)
    pieces = [os.pread(fd, length, offset) for _, offset, length, *_ in spans.tolist()]
    return b"".join(pieces)
