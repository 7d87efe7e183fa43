"""One pass over a slice of a JSON-lines file or of a table, in this process or in several helpers at once.

A helper is `scan_process` run as a program: it reads slices from stdin and writes Pieces to stdout. It
exits when its stdin ends, so it cannot outlive the coordinator.
"""

from __future__ import annotations

import contextlib
import queue
import subprocess
import sys
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import msgspec
from msgspec import Struct, structs

from trt_dp.dataset import helpers
from trt_dp.dataset.formats import find_reader
from trt_dp.dataset.inputs import opened
from trt_dp.dataset.lines import BOM, MAX_LINE, row_of, skip_line
from trt_dp.dataset.piece import Gathering, Piece
from trt_dp.dataset.readers.contract import Options
from trt_dp.dataset.store import Store
from trt_dp.errors import TrtDpError

SLICE = 32 << 20
_BUFFER = 1 << 20


class Lines(Struct, frozen=True):
    """A file of lines, the reader of its format, and the store for its rows; none: they stay where they are."""

    path: Path
    reader: str
    store: Path | None = None


class Groups(Lines, frozen=True):
    """A table whose rows lie in so many groups, which can be read one by one."""

    count: int = 0
    options: Options = Options()


def scan(what: Lines, start: int, stop: int) -> Piece:
    """The lines that begin in [start, stop), or a group of a table by its number, checked in full."""
    return _group(what, start) if isinstance(what, Groups) else _lines(what, start, stop)


def _group(what: Groups, number: int) -> Piece:
    found, read = Gathering(), find_reader(what.reader)
    with opened(str(what.path)) as source, contextlib.closing(Store(what.store)) as store:
        for row in read.group(source, number, what.options):  # type: ignore[attr-defined]
            found.add(row)
        return store.add(found, what.path.stat().st_size * (number + 1) // what.count)


def _lines(what: Lines, start: int, stop: int) -> Piece:
    parse = find_reader(what.reader).line
    if parse is None:
        msg = f"{what.reader} does not read lines"
        raise ValueError(msg)
    found, in_place = Gathering(), what.store is None
    with what.path.open("rb", buffering=_BUFFER) as file:
        offset = _first_line(file, start)
        while offset < stop and (line := file.readline(MAX_LINE + 1)):
            length = len(line)
            if length > MAX_LINE:
                length += 0 if line.endswith(b"\n") else skip_line(file)
                found.add(row_of(length, parse), (offset, MAX_LINE) if in_place else None)
            else:
                found.add(row_of(line, parse), (offset, length) if in_place else None)
            offset += length
    if what.store is None:
        return found.piece(offset)
    with contextlib.closing(Store(what.store)) as store:
        return store.add(found, offset)


def scan_file(what: Lines, size: int, processes: int) -> Generator[Piece]:
    """Scan a file of this size slice by slice, in order, with up to this many processes."""
    slices = [(first, min(size, first + SLICE)) for first in range(0, size, SLICE)]
    yield from _scan(what, slices, processes)


def scan_groups(what: Groups, processes: int) -> Generator[Piece]:
    """Scan a table group by group, in order, with up to this many processes."""
    yield from _scan(what, [(number, number + 1) for number in range(what.count)], processes)


def _scan(what: Lines, slices: list[tuple[int, int]], processes: int) -> Generator[Piece]:
    processes = min(processes, len(slices))
    if processes < 2:
        yield from (scan(what, *bounds) for bounds in slices)
    else:
        yield from _scan_with_helpers(what, slices, processes)


def _scan_with_helpers(
    what: Lines, slices: list[tuple[int, int]], processes: int
) -> Iterator[Piece]:
    started = [_start_helper(what) for _ in range(processes)]
    free: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()
    for helper in started:
        free.put(helper)

    def ask(bounds: tuple[int, int]) -> Piece:
        helper = free.get()
        try:
            return _ask_helper(helper, bounds) or scan(what, *bounds)
        finally:
            free.put(helper)

    try:
        with ThreadPoolExecutor(processes) as threads:
            yield from threads.map(ask, slices)
    finally:
        for helper in started:
            helpers.end(helper)


def _start_helper(what: Lines) -> subprocess.Popen[bytes]:
    words = [str(what.path), what.reader, str(what.store or "")]
    if isinstance(what, Groups):
        words += [str(what.count), msgspec.json.encode(_columns(what.options)).decode()]
    return helpers.take(words)


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
        return start - 1 + skip_line(file)
    bom = len(BOM) if file.read(len(BOM)) == BOM else 0
    file.seek(bom)
    return bom


def serve() -> None:
    """Learn from stdin what to scan, and serve slices of it until stdin ends."""
    if not (words := sys.stdin.buffer.readline()):
        return
    what = _what(*msgspec.json.decode(words))
    for order in sys.stdin.buffer:
        start, stop = map(int, order.split())
        try:
            body = msgspec.msgpack.encode(scan(what, start, stop))
        except TrtDpError:  # the coordinator scans this slice itself, and says what is wrong
            body = b""
        sys.stdout.buffer.write(b"%d\n" % len(body) + body)
        sys.stdout.buffer.flush()


def _what(path: str, reader: str, store: str, count: str = "", columns: str = "") -> Lines:
    where = (Path(path), reader, Path(store) if store else None)
    if not count:
        return Lines(*where)
    return Groups(*where, int(count), Options(**msgspec.json.decode(columns)))


def _columns(options: Options) -> dict[str, str | None]:
    return {name: value for name, value in structs.asdict(options).items() if name != "say"}
