"""Opens a dataset: checks its inputs in one pass and indexes them, unless an index of them is kept.

JSON lines whose prompts are text stay where they are, and workers read them there. Everything else goes into
a store in the run folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from msgspec import structs

from trt_dp.dataset import cache, helpers
from trt_dp.dataset.formats import choose_reader, find_reader
from trt_dp.dataset.index import Index, Part
from trt_dp.dataset.inputs import STDIN, Opened, expand, opened
from trt_dp.dataset.line_table import Gathered as LinesFound
from trt_dp.dataset.lines import BOM
from trt_dp.dataset.piece import LINE, Gathering, Piece
from trt_dp.dataset.readers.contract import Options, Reader, Row
from trt_dp.dataset.reading import Asked, Progress, Reading, Say, ignore, look, reading_of
from trt_dp.dataset.scan import SLICE, Groups, Lines, scan_file, scan_groups
from trt_dp.dataset.store import NAME, PARTIAL, Store
from trt_dp.errors import DatasetError
from trt_dp.types import Source

_FINGERPRINT_VERSION = 3  # changing it makes runs of earlier versions impossible to resume
_PIECE_BYTES, _PIECE_ROWS = 16 << 20, 1 << 14
_SPARE = 256 << 20
_IDS = (b'"input_ids"', b'"logits"')


def open_dataset(
    what: str | Path | Reading, folder: Path | None, progress: Progress, say: Say = ignore
) -> Index:
    """The index of what was asked for, kept or made now; a store that is new is `keep`'s to put in its place.

    Without a `folder` nothing is written, and the requests themselves cannot be read.
    """
    asked = look(reading_of(what))
    for place in _places(asked, folder):
        if index := cache.load(place, asked):
            helpers.dismiss()
            return index
    try:
        index = _make(asked, folder, progress, say)
    finally:
        helpers.dismiss()
    if look(asked.reading) != asked:
        msg = f"{asked.reading.name} changed while it was read: run the command again when it is complete"
        raise DatasetError(msg)
    if not len(index):
        msg = f"{asked.reading.name} has no requests"
        raise DatasetError(msg)
    if folder and not index.source.store:
        cache.keep(_places(asked, folder), index)
    return index


def glance(what: str | Path | Reading) -> Index:
    """The index of what is only looked at; that of JSON lines is kept beside them, so that the next look takes no time.

    A run does not use it: there, requests with ids are kept in another form.
    """
    asked = look(reading_of(what))
    index = cache.load(kept, asked) if (kept := _kept_for_looking(asked)) else None
    if index is None:
        index = open_dataset(what, None, ignore)
        if kept and not index.source.store:
            cache.keep([kept], index)
    return index


def _kept_for_looking(asked: Asked) -> Path | None:
    if len(asked.files) != 1 or asked.files[0].path == STDIN:
        return None
    path = Path(asked.files[0].path)
    return path.with_name(f".{path.name}.plan.npz")


def keep(index: Index, folder: Path) -> Index:
    """Put a new store in its place in the run folder, with its index beside it."""
    if not index.source.store:
        (folder / NAME).unlink(missing_ok=True)
        return index
    path = Path(index.source.path)
    if path.name == PARTIAL:
        path.replace(folder / NAME)
    elif (folder / "index.npz").exists():
        return index
    placed = structs.replace(
        index, source=structs.replace(index.source, path=str(folder.resolve() / NAME))
    )
    cache.keep([folder / "index.npz"], placed)
    return placed


def reopen(folder: Path, source: str, fingerprint: str) -> Index:
    """The index of a run's requests, though its inputs may be gone; raises DatasetError if the requests are."""
    path = Path(source)
    for place in (folder / "index.npz", path.with_name(f".{path.name}.index.npz")):
        index = cache.load(place, None)
        if index and index.fingerprint == fingerprint:
            return index
    if path.name != NAME and path.is_file():
        index = open_dataset(Reading(inputs=(source,), format="jsonl"), None, ignore)
        if index.fingerprint == fingerprint:
            return index
    msg = f"the requests of this run are no longer there: {source} was removed or changed"
    raise DatasetError(msg)


def discard(folder: Path) -> None:
    """Remove a store that was not put in its place."""
    with contextlib.suppress(OSError):
        (folder / PARTIAL).unlink()


def _places(asked: Asked, folder: Path | None) -> list[Path]:
    """Where an index may be kept: that of a store in its folder, that of a single file beside it as well."""
    places = [folder / "index.npz"] if folder else []
    if len(asked.files) != 1 or asked.files[0].path == STDIN:
        return places
    path = Path(asked.files[0].path)
    beside = path.with_name(f".{path.name}.index.npz")
    has_store = folder is not None and (folder / NAME).exists()
    return [*places, beside] if has_store else [beside, *places]


def _make(asked: Asked, folder: Path | None, progress: Progress, say: Say) -> Index:
    gathered = _Gathered(asked, progress)
    try:
        if lines := _in_place(asked, folder):
            gathered.begin(str(lines.path), find_reader(lines.reader).unit)
            with contextlib.closing(scan_file(lines, asked.size, helpers.PROCESSES)) as pieces:
                gathered.take(pieces)
            return gathered.index(Source(**structs.asdict(asked.files[0])))
        path = folder / PARTIAL if folder else None
        with contextlib.closing(Store(path, new=True)) as store:
            for name in expand(asked.reading.inputs):
                with opened(name) as source:
                    _read(source, store, gathered, asked.reading, say)
        return gathered.index(_stored(path))
    except OSError as error:
        msg = f"cannot read {error.filename or asked.reading.name}: {error.strerror}"
        raise DatasetError(msg) from error


def _in_place(asked: Asked, folder: Path | None) -> Lines | None:
    """The file that workers can read as it is: one of plain JSON lines, unless it holds ids and a store has room."""
    if len(asked.files) != 1 or asked.files[0].path == STDIN:
        return None
    with opened(asked.files[0].path) as source:
        if source.path is None or choose_reader(source, asked.reading.format) != "jsonl":
            return None
        _check_columns("jsonl", source, asked.reading)
        first = source.head.removeprefix(BOM).lstrip().partition(b"\n")[0]
        if folder and any(name in first for name in _IDS) and _has_room(folder, asked.size):
            return None
        return Lines(source.path, "jsonl")


def _check_columns(name: str, source: Opened, reading: Reading) -> None:
    """Raises DatasetError for columns of a file that has none."""
    named = [
        f"--{name.replace('_', '-')}"
        for name in ("prompt_column", "messages_column", "ids_column", "id_column")
        if getattr(reading, name) is not None
    ]
    if named and not getattr(find_reader(name), "has_columns", False):
        msg = f"{source.name} is read as {name}, which has no columns: remove {' and '.join(named)}"
        raise DatasetError(msg)


def _has_room(folder: Path, size: int) -> bool:
    """Whether a store of a file of ids fits; it is smaller than its text."""
    return shutil.disk_usage(folder).free > size + _SPARE


def _read(source: Opened, store: Store, gathered: _Gathered, reading: Reading, say: Say) -> None:
    """One input into the store; a file of lines by several processes."""
    name = choose_reader(source, reading.format)
    reader = find_reader(name)
    _check_columns(name, source, reading)
    gathered.begin(source.name, reader.unit)
    if reader.line and source.path and (store.path or source.path.stat().st_size > SLICE):
        lines = Lines(source.path, name, store.path)
        size = source.path.stat().st_size
        with contextlib.closing(scan_file(lines, size, helpers.PROCESSES)) as pieces:
            gathered.take(pieces)
        return
    if source.path and (groups := _groups(reader, name, source, reading.options(say), store)):
        with contextlib.closing(scan_groups(groups, helpers.PROCESSES)) as pieces:
            gathered.take(pieces)
        return
    gathered.take(_pieces(reader.rows(source, reading.options(say)), source, store))


def _groups(
    reader: Reader, name: str, source: Opened, options: Options, store: Store
) -> Groups | None:
    """A table of many groups that several processes can read at once; None for any other input."""
    count = getattr(reader, "groups", None)
    if count is None or source.path is None or source.path.stat().st_size <= SLICE:
        return None
    if not (found := count(source, options)):
        return None
    silent = structs.replace(options, say=ignore)
    return Groups(source.path, name, store.path, found, silent)


def _pieces(rows: Iterable[Row], source: Opened, store: Store) -> Iterator[Piece]:
    found = Gathering()
    for row in rows:
        found.add(row)
        if len(found.content) > _PIECE_BYTES or len(found) > _PIECE_ROWS:
            yield store.add(found, source.progress())
            found = Gathering()
    yield store.add(found, source.progress())


def _stored(path: Path | None) -> Source:
    if path is None:
        return Source(path="", size=0, mtime_ns=0, store=True)
    seen = path.stat()
    return Source(path=str(path), size=seen.st_size, mtime_ns=seen.st_mtime_ns, store=True)


class _Gathered:
    """The pieces of all inputs, one after the other; their fingerprint depends on every request and nothing else."""

    def __init__(self, asked: Asked, progress: Progress) -> None:
        self._asked = asked
        self._progress = progress
        self._parts: list[Part] = []
        self._lines = LinesFound()
        self._blanks = [np.empty(0, np.int64)]
        self._bad: dict[int, str] = {}
        self._notable: set[str] = set()
        self._digest = hashlib.sha256(f"{_FINGERPRINT_VERSION} {SLICE}".encode())
        self._count = self._read = self._before = 0

    def begin(self, name: str, unit: str) -> None:
        """The next pieces are from this input."""
        self._before = self._read
        self._parts.append(
            Part(name=name, unit=unit, first=self._count, blanks=sum(map(len, self._blanks)))
        )

    def take(self, pieces: Iterable[Piece]) -> None:
        """Take the pieces of an input as they come."""
        for piece in pieces:
            lines = np.frombuffer(piece.lines, LINE)
            self._lines.add(lines)
            self._blanks.append(np.array(piece.blanks, np.int64) + self._count)
            self._bad.update({self._count + at: reason for at, reason in piece.bad.items()})
            self._notable |= set(piece.notable)
            self._digest.update(b"%d %d;" % (len(lines), piece.checksum))
            self._count += len(lines)
            self._read = self._before + piece.stop
            self._progress(self._read, self._asked.size)

    def index(self, source: Source) -> Index:
        """The index of it all."""
        return Index(
            source=source,
            fingerprint=self._digest.hexdigest()[:32],
            lines=self._lines.table(),
            bad=self._bad,
            blanks=np.concatenate(self._blanks),
            parts=self._parts,
            notable=frozenset(self._notable),
            asked=self._asked,
        )
