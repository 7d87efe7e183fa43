"""Opens a dataset: tells its format, checks it in one pass and indexes it, unless a cached index is valid."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from trt_dp.dataset import cache
from trt_dp.dataset.document import is_document, scan_document
from trt_dp.dataset.index import Index
from trt_dp.dataset.scan import BOM, LINE, SLICE, Piece, scan_file
from trt_dp.errors import DatasetError
from trt_dp.types import Source

_FINGERPRINT_VERSION = 2  # changing it makes runs of earlier versions impossible to resume
_HEAD = 4096
_FOREIGN = {
    b"\x1f\x8b": "gzip-compressed: decompress it first (gunzip)",
    b"\x28\xb5\x2f\xfd": "zstd-compressed: decompress it first (unzstd)",
    b"BZh": "bzip2-compressed: decompress it first (bunzip2)",
    b"\xfd7zXZ": "xz-compressed: decompress it first (unxz)",
    b"PK\x03\x04": "a zip archive: decompress it first (unzip)",
    b"PAR1": "a Parquet file: convert it to JSON lines first",
    b"\xff\xfe": "UTF-16: convert it to UTF-8 first (iconv)",
    b"\xfe\xff": "UTF-16: convert it to UTF-8 first (iconv)",
}


Progress = Callable[[int, int], None]


def open_dataset(path: Path, folder: Path | None, progress: Progress) -> Index:
    """The index of a dataset: from a cache beside it or in `folder`, or made now; kept only if there is a `folder`."""
    source = _source(path)
    places = [path.with_name(f".{path.name}.index.npz")]
    places += [folder / "index.npz"] if folder else []
    for place in places:
        if index := cache.load(place, source):
            return index
    index = _make(source, progress)
    if _source(path) != source:
        msg = f"{path} changed while it was read: run the command again when the file is complete"
        raise DatasetError(msg)
    if not len(index):
        msg = f"{path} holds no requests"
        raise DatasetError(msg)
    if folder:
        cache.keep(places, index)
    return index


def _source(path: Path) -> Source:
    try:
        return _look(path)
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror}"
        raise DatasetError(msg) from error


def _look(path: Path) -> Source:
    if path.is_dir():
        msg = f"{path} is a folder: name a dataset file"
        raise DatasetError(msg)
    if not path.is_file():
        what = (
            "is not a regular file: save it as a file first"
            if path.exists()
            else "does not exist: make a dataset with trt-dp prepare-dataset"
        )
        msg = f"{path} {what}"
        raise DatasetError(msg)
    found = path.stat()
    return Source(
        path=str(path.resolve()),
        size=found.st_size,
        mtime_ns=found.st_mtime_ns,
        document=is_document(_head(path).removeprefix(BOM)),
    )


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD)


def _make(source: Source, progress: Progress) -> Index:
    path = Path(source.path)
    try:
        head = _head(path)
        _refuse_foreign(path, head)
        start = len(BOM) if head.startswith(BOM) else 0
        if source.document:
            pieces, unit = scan_document(path, start), "sample"
        else:
            pieces, unit = scan_file(path, source.size, os.cpu_count() or 1), "line"
        return _assemble(source, pieces, unit, progress)
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror}"
        raise DatasetError(msg) from error


def _refuse_foreign(path: Path, head: bytes) -> None:
    for magic, what in _FOREIGN.items():
        if head.startswith(magic):
            msg = f"{path} is {what}"
            raise DatasetError(msg)


def _assemble(source: Source, pieces: Iterable[Piece], unit: str, progress: Progress) -> Index:
    """The index of these pieces; its fingerprint depends on every byte of the file and nothing else."""
    lines, blanks, bad, count = [], [], {}, 0
    notable: set[str] = set()
    digest = hashlib.sha256(f"{_FINGERPRINT_VERSION} {SLICE} {unit} {source.size}".encode())
    for piece in pieces:
        found = np.frombuffer(piece.lines, LINE)
        lines.append(found)
        bad.update({count + position: reason for position, reason in piece.bad.items()})
        blanks.append(np.array(piece.blanks, np.int64) + count)
        count += len(found)
        notable |= set(piece.notable)
        digest.update(piece.checksum.to_bytes(4, "little"))
        progress(piece.stop, source.size)
    return Index(
        source=source,
        fingerprint=digest.hexdigest()[:32],
        lines=np.concatenate([np.empty(0, LINE), *lines]),
        bad=bad,
        blanks=np.concatenate([np.empty(0, np.int64), *blanks]),
        unit=unit,
        notable=frozenset(notable),
    )
