"""What a user names as requests (files, folders, globs, stdin), opened as plain bytes whatever their compression."""

from __future__ import annotations

import contextlib
import glob
import gzip
import importlib
import io
import shutil
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec
from msgspec import Struct

from trt_dp.errors import UNREADABLE, DatasetError
from trt_dp.system.extras import pip_install

STDIN = "-"
HEAD = 1 << 16
_BUFFER = 1 << 20
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow", ".feather")
_PACKED = (".gz", ".zst")
_NOTES = ("dataset_info.json", "state.json", "dataset_dict.json")
_FOREIGN = {
    b"BZh": "bzip2-compressed: decompress it first (bunzip2)",
    b"\xfd7zXZ": "xz-compressed: decompress it first (unxz)",
    b"PK\x03\x04": "a zip archive: decompress it first (unzip)",
    b"\xff\xfe": "UTF-16: convert it to UTF-8 first (iconv)",
    b"\xfe\xff": "UTF-16: convert it to UTF-8 first (iconv)",
}
BROKEN = (OSError, EOFError, zlib.error, *UNREADABLE)
"""What decompressors raise for damaged bytes; their own errors are OSError or ValueError, or become one here."""


class Opened(Struct):
    """An input as plain bytes: its name for messages, how it begins, and how far it was read."""

    name: str
    head: bytes
    file: BinaryIO
    path: Path | None  # only if the bytes lie in this file as they are
    progress: Callable[[], int]

    @property
    def base(self) -> str:
        """The name without the suffix of a compression, in lower case."""
        lower = self.name.lower()
        return next((lower[: -len(end)] for end in _PACKED if lower.endswith(end)), lower)


class _File(Struct):
    """A data file that `datasets` saved."""

    filename: str


class _State(Struct):
    """What `datasets` says of a folder that it saved."""

    files: list[_File] = msgspec.field(name="_data_files")


def expand(given: Sequence[str]) -> list[str]:
    """The files that these names stand for, in order; raises DatasetError where one stands for none."""
    return [file for name in given for file in _expand(name)]


def _expand(name: str) -> list[str]:
    path = Path(name)
    if name == STDIN or path.is_file():
        return [name]
    if path.is_dir():
        return [str(file) for file in _folder(path)]
    if path.exists():
        msg = f"{name} is not a regular file: save it as a file first, or pipe it to `-`"
        raise DatasetError(msg)
    if found := sorted(file for file in glob.glob(name, recursive=True) if Path(file).is_file()):  # noqa: PTH207
        return found
    msg = f"{name} does not exist: make a dataset with trt-dp prepare-dataset"
    raise DatasetError(msg)


def _folder(path: Path) -> list[Path]:
    """The data files of a folder, by name; those of a folder saved by `datasets`, in its order."""
    if (path / "dataset_dict.json").is_file():
        msg = f"{path} holds several splits: name one of its folders"
        raise DatasetError(msg)
    if (path / "state.json").is_file():
        return _saved_by_datasets(path)
    files = [file for file in sorted(path.iterdir()) if _is_data(file)]
    if not files:
        msg = f"{path} holds no file of requests: one ends with {', '.join(_SUFFIXES)}, or with .gz or .zst after that"
        raise DatasetError(msg)
    return files


def _is_data(file: Path) -> bool:
    name = file.name.lower()
    plain = next((name[: -len(end)] for end in _PACKED if name.endswith(end)), name)
    return (
        plain.endswith(_SUFFIXES)
        and not name.startswith((".", "_"))
        and name not in _NOTES
        and file.is_file()
    )


def _saved_by_datasets(path: Path) -> list[Path]:
    try:
        state = msgspec.json.decode((path / "state.json").read_bytes(), type=_State)
    except (OSError, *UNREADABLE) as error:
        msg = f"{path / 'state.json'} cannot be read: {error}"
        raise DatasetError(msg) from error
    return [path / Path(file.filename).name for file in state.files]


@contextmanager
def opened(name: str) -> Iterator[Opened]:
    """An input, decompressed as it is read."""
    with _raw(name) as raw:
        head = _peek(raw)
        _refuse_foreign(name, head)
        unpacked = _unpacked(name, raw, head)
        file = raw if unpacked is None else io.BufferedReader(cast("Any", unpacked), _BUFFER)
        yield Opened(
            name="stdin" if name == STDIN else name,
            head=head if unpacked is None else _peek(file, name),
            file=cast("BinaryIO", file),
            path=Path(name) if unpacked is None and name != STDIN else None,
            progress=_progress(name, raw),
        )


@contextmanager
def _raw(name: str) -> Iterator[io.BufferedReader[Any]]:
    if name == STDIN:
        yield io.BufferedReader(_Replay(sys.stdin.buffer), _BUFFER)
        return
    with Path(name).open("rb", buffering=_BUFFER) as file:
        yield cast("Any", file)


class _Replay(io.RawIOBase):
    """A pipe whose first lines are there at once: one read of a pipe may end in the middle of the first line."""

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe = pipe
        self._first = b""
        while len(self._first) < HEAD and b"\n" not in self._first:
            if not (more := pipe.read1(HEAD)):  # type: ignore[attr-defined]
                break
            self._first += more

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """The first lines, then the pipe as it comes."""
        found = self._first[: len(buffer)] or self._pipe.read1(len(buffer))  # type: ignore[attr-defined]
        self._first = self._first[len(buffer) :]
        buffer[: len(found)] = found
        return len(found)


def _peek(file: io.BufferedReader[Any], name: str = "") -> bytes:
    """How an input begins, without moving on."""
    try:
        return file.peek(HEAD)[:HEAD]
    except BROKEN as error:
        raise broken(name, error) from error


def broken(name: str, error: Exception) -> DatasetError:
    """The error for an input whose bytes cannot be read."""
    return DatasetError(f"cannot read {name}: {getattr(error, 'strerror', None) or error}")


def _progress(name: str, raw: io.BufferedReader) -> Callable[[], int]:
    return (lambda: 0) if name == STDIN else raw.tell


def _refuse_foreign(name: str, head: bytes) -> None:
    for magic, what in _FOREIGN.items():
        if head.startswith(magic):
            msg = f"{name} is {what}"
            raise DatasetError(msg)


def _unpacked(name: str, raw: io.BufferedReader[Any], head: bytes) -> io.RawIOBase | Any | None:
    if head.startswith(_GZIP):
        return gzip.GzipFile(fileobj=raw)
    return _zstd(name).ZstdFile(raw) if head.startswith(_ZSTD) else None


def _zstd(name: str) -> Any:
    """The zstd module of Python 3.14, or its backport, which has the same interface."""
    module = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    with contextlib.suppress(ImportError):
        return importlib.import_module(module)
    msg = f"{name} is zstd-compressed: install backports.zstd ({pip_install('zstd')}), or decompress it (unzstd)"
    raise DatasetError(msg)


@contextmanager
def seekable(source: Opened) -> Iterator[BinaryIO]:
    """The same bytes in a file that can be read in any order; a temporary one unless they lie in one already."""
    if source.path is not None:
        with source.path.open("rb") as file:
            yield file
        return
    with tempfile.TemporaryFile() as copy:
        try:
            shutil.copyfileobj(source.file, copy, _BUFFER)
        except BROKEN as error:
            raise broken(source.name, error) from error
        copy.seek(0)
        yield cast("BinaryIO", copy)
