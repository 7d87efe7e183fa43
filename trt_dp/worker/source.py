"""The dataset as a worker reads it: the very file that the coordinator checked, or none."""

from __future__ import annotations

import os
from pathlib import Path

from trt_dp.dataset import request_line as lines
from trt_dp.errors import UsageError
from trt_dp.types import Source, Spans


class SourceFile:
    """The file behind a Source: seen on this machine, or not, as on a host that has another or none there."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._file = _open(source)

    @property
    def seen(self) -> bool:
        """Whether this machine sees the very file that the coordinator checked."""
        return self._file is not None

    def read(self, spans: Spans) -> bytes:
        """The lines one after the other; raises UsageError when the file is not what was checked any more."""
        found = b"" if self._file is None else _read(self._file, spans)
        if self._file is None or not _same(
            self._file, self._source
        ):  # so late that no change slips between
            raise UsageError(lines.CHANGED.format(self._source.path))
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
    """Neighbours in the file, which most are, at one go."""
    stops = spans["offset"] + spans["length"]
    if (spans["offset"][1:] == stops[:-1]).all():
        first = int(spans["offset"][0])
        return os.pread(fd, int(stops[-1]) - first, first)
    pieces = [os.pread(fd, length, offset) for _, offset, length, _ in spans.tolist()]
    return b"".join(pieces)
