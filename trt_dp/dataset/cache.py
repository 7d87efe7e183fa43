"""Keeps the index of a dataset for the next run, beside the dataset or in the run folder."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from trt_dp.dataset import store
from trt_dp.dataset.index import Index, Part
from trt_dp.dataset.inputs import STDIN
from trt_dp.dataset.line_table import NAMES, LineTable, fits
from trt_dp.dataset.reading import Asked
from trt_dp.system import safe_files
from trt_dp.types import PromptKind, Source

_VERSION = 6
_UNUSABLE = (  # all that numpy and zipfile raise for a damaged file
    *(OSError, EOFError, ValueError, TypeError, AttributeError, KeyError),
    *(NotImplementedError, RuntimeError, MemoryError, OverflowError, SyntaxError),
    *(zipfile.BadZipFile, zlib.error, msgspec.DecodeError),
)


_Arrays = dict[str, NDArray[Any]]


class _Header(Struct):
    """What a cache file has besides its arrays."""

    version: int
    asked: Asked
    source: Source
    fingerprint: str
    bad: dict[int, str]
    parts: list[Part]
    notable: frozenset[str]


def load(place: Path, asked: Asked | None) -> Index | None:
    """The cached index, if it is about exactly these files (None: any), and its requests are there."""
    try:
        with safe_files.look_into(place) as file:
            if not safe_files.is_mine(file):
                return None
            header, lines, blanks = _arrays(file)
    except _UNUSABLE:
        return None  # absent, from another version, or damaged: the dataset is read again
    if header.version != _VERSION or not _sound(header, lines, blanks):
        return None
    if asked is not None and not _answers(header, asked):
        return None
    source = _still_there(header.source, place)
    if source is None:
        return None
    return Index(
        asked=header.asked,
        source=source,
        fingerprint=header.fingerprint,
        lines=LineTable(lines),
        bad=header.bad,
        blanks=blanks,
        parts=header.parts,
        notable=header.notable,
    )


def _answers(header: _Header, asked: Asked) -> bool:
    """Whether an index is that of these files as they are now; stdin is never the same again."""
    return header.asked == asked and all(file.path != STDIN for file in asked.files)


def _still_there(source: Source, place: Path) -> Source | None:
    """The file that workers read, if it is as it was; a store lies beside its index, wherever that is now."""
    path = place.parent.resolve() / store.NAME if source.store else Path(source.path)
    try:
        found = path.stat()
    except OSError:
        return None
    now = Source(path=str(path), size=found.st_size, mtime_ns=found.st_mtime_ns, store=source.store)
    same = (now.size, now.mtime_ns) == (source.size, source.mtime_ns)
    return now if same else None


def _arrays(file: BinaryIO) -> tuple[_Header, _Arrays, NDArray[Any]]:
    """The contents of a cache; refuses a compressed one, which is never ours and could unpack to any size."""
    with zipfile.ZipFile(file) as archive:
        if any(member.file_size != member.compress_size for member in archive.infolist()):
            msg = "the cache is compressed"
            raise ValueError(msg)
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        header = msgspec.json.decode(arrays["facts"].tobytes(), type=_Header, strict=False)
        return header, {name: arrays[name] for name in NAMES}, arrays["blanks"]


def _sound(header: _Header, lines: _Arrays, blanks: NDArray[Any]) -> bool:
    """Whether a cache can be about a file of this size: no line outside it, no negative count."""
    if blanks.dtype != np.int64 or blanks.ndim != 1 or not fits(lines, header.source.size):
        return False
    known = all(0 <= place < len(lines["kind"]) for place in header.bad)
    return known and int(lines["kind"].max()) <= max(PromptKind) and bool(header.parts)


def keep(places: list[Path], index: Index) -> None:
    """Write the cache to the first place where that works; a run does not depend on it."""
    header = _Header(
        version=_VERSION,
        asked=index.asked,
        source=index.source,
        fingerprint=index.fingerprint,
        bad=index.bad,
        parts=index.parts,
        notable=index.notable,
    )
    packed = np.frombuffer(msgspec.json.encode(header), np.uint8)
    arrays: dict[str, Any] = {"facts": packed, "blanks": index.blanks, **index.lines.arrays()}
    for place in places:
        if safe_files.another_s(place):
            continue  # the two users would replace it in turns
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with safe_files.atomic_write(place, mode=0o600) as file:
                np.savez(file, **arrays)
        except OSError:
            continue
        return
