"""The dataset file: told apart, checked in one pass, indexed, and the index kept for the next time.

The coordinator knows of each line its place and its token counts, never its ids.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np
from msgspec import Raw, Struct
from numpy.typing import NDArray

from trt_dp.dataset.request_line import (
    CHANGED,
    TEXT,
    check_lora_id,
    failure,
    measure,
    task_id_of,
)
from trt_dp.dataset.scan import BOM, LINE, MAX_LINE, SLICE, Piece, scan_file
from trt_dp.errors import UNREADABLE, BadLine, DatasetError
from trt_dp.system import safe_files
from trt_dp.types import RECORD, SPAN, Failure, Records, Source, Spans

_VERSION = 3
_FINGERPRINT = 2
_SHOWN = 10
_HEAD = 4096
_DOCUMENT = re.compile(rb'\s*\{\s*"(?:metadata|samples)"\s*:')
_FOREIGN = {
    b"\x1f\x8b": "gzip-compressed: unpack it first (gunzip)",
    b"\x28\xb5\x2f\xfd": "zstd-compressed: unpack it first (unzstd)",
    b"BZh": "bzip2-compressed: unpack it first (bunzip2)",
    b"\xfd7zXZ": "xz-compressed: unpack it first (unxz)",
    b"PK\x03\x04": "a zip archive: unpack it first (unzip)",
    b"PAR1": "a Parquet file: convert it to JSON lines first",
    b"\xff\xfe": "UTF-16: convert it to UTF-8 first (iconv)",
    b"\xfe\xff": "UTF-16: convert it to UTF-8 first (iconv)",
}

_UNUSABLE = (  # all that numpy and zipfile raise over a damaged file
    *(OSError, EOFError, ValueError, TypeError, AttributeError, KeyError),
    *(NotImplementedError, RuntimeError, MemoryError, OverflowError, SyntaxError),
    *(zipfile.BadZipFile, zlib.error, msgspec.DecodeError),
)

Progress = Callable[[int, int], None]


class Index(Struct, frozen=True):
    """Where every request of a dataset lies and how long it is; bad ones have no tokens and a reason."""

    source: Source
    fingerprint: str
    lines: NDArray[np.void]
    bad: dict[int, str]
    blanks: NDArray[np.int64]
    unit: str = "line"

    def __len__(self) -> int:
        """How many requests there are, bad ones included."""
        return len(self.lines)

    def spans(self, indices: NDArray[np.int64]) -> Spans:
        """Where these requests lie."""
        spans = np.empty(len(indices), SPAN)
        spans["index"] = indices
        lines = self.lines[indices]
        for name in ("offset", "length", "input_tokens"):
            spans[name] = lines[name]
        return spans

    @property
    def first_text(self) -> int | None:
        """The first request whose prompt is text, if there is one."""
        text = (self.lines["input_tokens"] == TEXT) & (self.lines["output_tokens"] > 0)
        return int(text.argmax()) if text.any() else None

    def line_number(self, index: int) -> int:
        """The number of a request's line (or sample) in the file, from 1."""
        return index + 1 + int(np.searchsorted(self.blanks, index, side="right"))

    def refusal(self, remedy: str = "Fix the file or pass --skip-bad") -> str:
        """The invalid lines in a sentence and a list: the first ten, and how many more there are."""
        shown = list(self.bad.items())[:_SHOWN]
        listed = "".join(f"\n  {self.unit} {self.line_number(i)}: {why}" for i, why in shown)
        more = len(self.bad) - len(shown)
        rest = f"\n  and {more:,} more" if more else ""
        count = f"{len(self.bad):,} invalid {self.unit}{'s' if len(self.bad) > 1 else ''}"
        return f"{self.source.path}: {count}. {remedy}{listed}{rest}"

    def failures(self, indices: Iterable[int], errors: dict[int, Failure]) -> tuple[Records, bytes]:
        """These requests as failures, ready for the journal; bad ones bring their own reason."""
        chosen = list(indices)
        texts = self.read(chosen)
        lines = [
            self._failure(i, text, errors.get(i)) for i, text in zip(chosen, texts, strict=True)
        ]
        records = np.zeros(len(chosen), RECORD)
        records["index"], records["length"] = chosen, [len(line) for line in lines]
        records["failed"] = True
        return records, b"".join(lines)

    def read(self, indices: Iterable[int]) -> list[bytes]:
        """The bytes of these requests; raises DatasetError when the file is not what was checked any more."""
        places = self.lines[list(indices)]
        spans = zip(places["length"].tolist(), places["offset"].tolist(), strict=True)
        try:
            with Path(self.source.path).open("rb") as file:
                lines = [os.pread(file.fileno(), length, offset) for length, offset in spans]
                found = os.fstat(file.fileno())  # afterwards, so that no change slips between
                if (found.st_size, found.st_mtime_ns) == (self.source.size, self.source.mtime_ns):
                    return lines
        except OSError as error:
            msg = f"cannot read {self.source.path} any more: {error.strerror}"
            raise DatasetError(msg) from error
        raise DatasetError(CHANGED.format(self.source.path))

    def _failure(self, index: int, line: bytes, error: Failure | None) -> bytes:
        if error is None:
            place = f"{self.unit} {self.line_number(index)}"
            error = Failure("bad_line", f"{place}: {self.bad[index]}", 0)
        task_id = index if self.source.document else task_id_of(index, line)
        return failure(task_id, error)


def open_dataset(path: Path, folder: Path | None, progress: Progress) -> Index:
    """The index of a dataset, from the cache beside it or in `folder`, or made now; without a folder none is kept."""
    source = _source(path)
    places = [path.with_name(f".{path.name}.index.npz")]
    places += [folder / "index.npz"] if folder else []
    for place in places:
        if index := _load(place, source):
            return index
    index = _make(source, progress)
    if _source(path) != source:
        msg = f"{path} changed while it was read: run again when it is complete"
        raise DatasetError(msg)
    if not len(index):
        msg = f"{path} holds no request"
        raise DatasetError(msg)
    if folder:
        _keep(places, index)
    return index


def _source(path: Path) -> Source:
    try:
        return _look(path)
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror}"
        raise DatasetError(msg) from error


def _look(path: Path) -> Source:
    if path.is_dir():
        msg = f"{path} is a folder: name the dataset file in it"
        raise DatasetError(msg)
    if not path.is_file():
        what = (
            "is not a regular file: save it to one"
            if path.exists()
            else "does not exist: trt-dp prepare-dataset makes one"
        )
        msg = f"{path} {what}"
        raise DatasetError(msg)
    found = path.stat()
    return Source(
        path=str(path.resolve()),
        size=found.st_size,
        mtime_ns=found.st_mtime_ns,
        document=_is_document(path),
    )


def _is_document(path: Path) -> bool:
    with path.open("rb") as file:
        return bool(_DOCUMENT.match(file.read(_HEAD).removeprefix(BOM)))


def _make(source: Source, progress: Progress) -> Index:
    path = Path(source.path)
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
        _refuse_foreign(path, head)
        start = len(BOM) if head.startswith(BOM) else 0
        if source.document:
            pieces, unit = _document(path, start), "sample"
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
    """Put pieces together; the fingerprint depends on every byte and on nothing else."""
    lines, blanks, bad, count = [], [], {}, 0
    digest = hashlib.sha256(f"{_FINGERPRINT} {SLICE} {unit} {source.size}".encode())
    for piece in pieces:
        found = np.frombuffer(piece.lines, LINE)
        lines.append(found)
        bad.update({count + position: reason for position, reason in piece.bad.items()})
        blanks.append(np.array(piece.blanks, np.int64) + count)
        count += len(found)
        digest.update(piece.checksum.to_bytes(4, "little"))
        progress(piece.stop, source.size)
    return Index(
        source,
        digest.hexdigest()[:32],
        np.concatenate([np.empty(0, LINE), *lines]),
        bad,
        np.concatenate([np.empty(0, np.int64), *blanks]),
        unit,
    )


class _Document(Struct, forbid_unknown_fields=True):
    """NVIDIA's JSON document."""

    samples: list[Raw]
    metadata: Raw = Raw()


def _document(path: Path, start: int) -> Iterator[Piece]:
    """The samples of a JSON document, each found again in the text it was decoded from."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        try:
            samples = [bytes(raw) for raw in _decode_document(text, start)]
        except UNREADABLE as error:
            msg = f"{path} looks like a JSON document of samples, but: {error}"
            raise DatasetError(msg) from error
        lines, bad, offset = np.zeros(len(samples), LINE), {}, start
        for number, sample in enumerate(samples):
            offset = text.find(sample, offset)
            try:
                counts = _measure_sample(sample)
            except BadLine as reason:
                bad[number], counts = str(reason), (0, 0)
            lines[number] = (offset, min(len(sample), MAX_LINE), *counts)
            offset += len(sample)
        yield Piece(lines.tobytes(), bad, [], zlib.crc32(text), len(text))


def _decode_document(text: mmap.mmap, start: int) -> list[Raw]:
    with memoryview(text) as whole, whole[start:] as view:
        return [raw.copy() for raw in msgspec.json.decode(view, type=_Document).samples]


def _measure_sample(sample: bytes) -> tuple[int, int]:
    if len(sample) > MAX_LINE:
        msg = f"the sample is {len(sample)} bytes long; the limit is {MAX_LINE}"
        raise BadLine(msg)
    counts = measure(sample)
    check_lora_id(sample)
    return counts


class _Facts(Struct):
    """What the cache file says beside its arrays."""

    version: int
    source: Source
    fingerprint: str
    bad: dict[int, str]
    unit: str


def _load(place: Path, source: Source) -> Index | None:
    """The cached index, if there is one of exactly this file."""
    try:
        with safe_files.look_into(place) as file:
            if not safe_files.is_mine(file):
                return None
            facts, lines, blanks = _arrays(file)
    except _UNUSABLE:
        return None  # absent, from another version, or damaged: the dataset is read again
    if (facts.version, facts.source) != (_VERSION, source) or not _sound(facts, lines, blanks):
        return None
    return Index(source, facts.fingerprint, lines, facts.bad, blanks, facts.unit)


def _arrays(file: BinaryIO) -> tuple[_Facts, NDArray[Any], NDArray[Any]]:
    """What a cache holds; raises for one that is packed, which ours never are, and could unpack to anything."""
    with zipfile.ZipFile(file) as archive:
        if any(member.file_size != member.compress_size for member in archive.infolist()):
            msg = "the cache is compressed"
            raise ValueError(msg)
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        facts = msgspec.json.decode(arrays["facts"].tobytes(), type=_Facts, strict=False)
        return facts, arrays["lines"], arrays["blanks"]


def _sound(facts: _Facts, lines: NDArray[Any], blanks: NDArray[Any]) -> bool:
    """Whether a cache can be about a file of this size: no place outside it, no count below nothing."""
    if lines.dtype != LINE or blanks.dtype != np.int64 or lines.ndim != 1 or blanks.ndim != 1:
        return False
    if not len(lines) or min(int(lines[name].min()) for name in LINE.names or ()) < 0:
        return False
    stops = lines["offset"] + lines["length"]
    known = all(0 <= place < len(lines) for place in facts.bad)
    return known and int(stops.max()) <= facts.source.size and facts.unit in ("line", "sample")


def _keep(places: list[Path], index: Index) -> None:
    """Write the cache to the first place that takes it; a run does not need it."""
    facts = _Facts(_VERSION, index.source, index.fingerprint, index.bad, index.unit)
    packed = np.frombuffer(msgspec.json.encode(facts), np.uint8)
    for place in places:
        if safe_files.another_s(place):
            continue  # the two users would replace it in turns
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with safe_files.atomic_write(place, mode=0o600) as file:
                np.savez(file, facts=packed, lines=index.lines, blanks=index.blanks)
        except OSError:
            continue
        return
