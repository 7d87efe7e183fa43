"""One pass over a slice of a JSON-lines file, in this process or in several helpers at once.

A helper is this module run as a program: it reads slices from stdin and writes Pieces to stdout. It
exits when its stdin ends, so it cannot outlive the coordinator.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np
from msgspec import Struct

from trt_dp.dataset.request_line import INVALID, Measured, measure
from trt_dp.errors import BadLine
from trt_dp.system import safe_files

LINE = np.dtype(
    [
        ("offset", "<i8"),
        ("length", "<i4"),
        ("input_tokens", "<i4"),
        ("output_tokens", "<i4"),
        ("kind", "u1"),
    ]
)
"""Where a line lies and what it holds; `kind` is a PromptKind."""
MAX_LINE = 64 << 20
SLICE = 32 << 20
BOM = b"\xef\xbb\xbf"
_BUFFER = 1 << 20
_MOST_NAMES = 100  # a hostile file may have a new one in each row


class Piece(Struct):
    """What a slice holds: packed LINEs, why some are invalid, and where blank lines lie, both by position in it."""

    lines: bytes
    bad: dict[int, str]
    blanks: list[int]
    checksum: int
    stop: int
    notable: list[str] = []  # names in its rows that a run should know of


class _Found:
    """The lines of a slice as they are found."""

    def __init__(self) -> None:
        self.offsets: list[int] = []
        self.lengths: list[int] = []
        self.measured: list[Measured] = []
        self.bad: dict[int, str] = {}
        self.blanks: list[int] = []
        self.notable: set[str] = set()

    def add(self, offset: int, line: bytes) -> None:
        """Measure a line; a blank one is counted, an invalid one keeps its place and the reason."""
        if line.isspace():
            self.blanks.append(len(self.offsets))
            return
        try:
            measured = measure(line)
        except BadLine as reason:
            self.add_bad(offset, len(line), str(reason))
            return
        self._place(offset, len(line), measured)
        if measured.notable and len(self.notable) < _MOST_NAMES:
            self.notable |= measured.notable

    def add_bad(self, offset: int, length: int, reason: str) -> None:
        """An invalid line."""
        self.bad[len(self.offsets)] = reason
        self._place(offset, length, INVALID)

    def _place(self, offset: int, length: int, measured: Measured) -> None:
        self.offsets.append(offset)
        self.lengths.append(length)
        self.measured.append(measured)

    def piece(self, checksum: int, stop: int) -> Piece:
        """All of it, packed."""
        lines = np.empty(len(self.offsets), LINE)
        lines["offset"], lines["length"] = self.offsets, self.lengths
        for name in ("input_tokens", "output_tokens", "kind"):
            lines[name] = [getattr(measured, name) for measured in self.measured]
        return Piece(
            lines=lines.tobytes(),
            bad=self.bad,
            blanks=self.blanks,
            checksum=checksum,
            stop=stop,
            notable=sorted(self.notable),
        )


def scan(path: Path, start: int, stop: int) -> Piece:
    """The lines that begin in [start, stop), measured in full, with a checksum of their bytes."""
    found, checksum = _Found(), 0
    with path.open("rb", buffering=_BUFFER) as file:
        offset = _first_line(file, start)
        while offset < stop and (line := file.readline(MAX_LINE + 1)):
            checksum = zlib.crc32(line, checksum)
            if len(line) > MAX_LINE:
                length = len(line) + (0 if line.endswith(b"\n") else _skip_line(file))
                reason = f"the line is {length} bytes long; the limit is {MAX_LINE}"
                found.add_bad(offset, min(length, MAX_LINE), reason)
            else:
                length = len(line)
                found.add(offset, line)
            offset += length
    return found.piece(checksum, offset)


def scan_file(path: Path, size: int, processes: int) -> Iterator[Piece]:
    """Scan a file of this size slice by slice, in order, with up to this many processes."""
    slices = [(first, min(size, first + SLICE)) for first in range(0, size, SLICE)]
    processes = min(processes, len(slices))
    if processes < 2:
        yield from (scan(path, *bounds) for bounds in slices)
    else:
        yield from _scan_with_helpers(path, slices, processes)


def _scan_with_helpers(
    path: Path, slices: list[tuple[int, int]], processes: int
) -> Iterator[Piece]:
    helpers = [_start_helper(path) for _ in range(processes)]
    free: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()
    for helper in helpers:
        free.put(helper)

    def ask(bounds: tuple[int, int]) -> Piece:
        helper = free.get()
        try:
            return _ask_helper(helper, bounds) or scan(path, *bounds)
        finally:
            free.put(helper)

    try:
        with ThreadPoolExecutor(processes) as threads:
            yield from threads.map(ask, slices)
    finally:
        for helper in helpers:
            helper.kill()
            helper.communicate()


def _start_helper(path: Path) -> subprocess.Popen[bytes]:
    command = safe_files.python("trt_dp.dataset.scan", str(path))
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )


def _ask_helper(helper: subprocess.Popen[bytes], bounds: tuple[int, int]) -> Piece | None:
    """A slice scanned by a helper; None if the helper died and the slice must be scanned here."""
    if helper.stdin is None or helper.stdout is None:
        return None
    try:
        helper.stdin.write(b"%d %d\n" % bounds)
        helper.stdin.flush()
        length = int(helper.stdout.readline() or b"0")
        body = helper.stdout.read(length)
    except OSError:
        return None
    return msgspec.msgpack.decode(body, type=Piece) if length and len(body) == length else None


def _first_line(file: BinaryIO, start: int) -> int:
    """Go to the first line that begins at or after `start`; a byte-order mark is skipped."""
    if start:
        file.seek(start - 1)
        return start - 1 + _skip_line(file)
    bom = len(BOM) if file.read(len(BOM)) == BOM else 0
    file.seek(bom)
    return bom


def _skip_line(file: BinaryIO) -> int:
    """Skip the rest of a line, however long, in bounded memory; returns its length."""
    skipped = 0
    while piece := file.readline(_BUFFER):
        skipped += len(piece)
        if piece.endswith(b"\n"):
            break
    return skipped


def main() -> None:
    """Serve slices until stdin ends."""
    path = Path(os.fsdecode(sys.argv[1]))
    for order in sys.stdin.buffer:
        start, stop = map(int, order.split())
        body = msgspec.msgpack.encode(scan(path, start, stop))
        sys.stdout.buffer.write(b"%d\n" % len(body) + body)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
