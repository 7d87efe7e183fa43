"""Bytes onto a disk or a pipe: a file appears whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from trt_dp.errors import UsageError, WriteError

_LONGEST_NAME = 255


def write_file(path: Path, pieces: Iterable[bytes]) -> int:
    """Write beside `path` and move into place; on any failure nothing is left. Returns the bytes written."""
    partial = _partial(path)
    size, left = 0, iter(pieces)
    try:
        first = next(left, b"")  # what is refused is refused before a folder is made
        path.parent.mkdir(parents=True, exist_ok=True)
        with _own(partial) as file:
            for piece in itertools.chain([first], left):
                file.write(piece)
                size += len(piece)
            file.flush()
            partial.replace(path)
    except OSError as error:
        msg = f"cannot write {path}: {error.strerror} (after {size / 1e6:,.1f} MB; nothing is left there)"
        raise WriteError(msg) from error
    return size


def write_stdout(pieces: Iterable[bytes]) -> int:
    """Write to stdout as bytes."""
    size = 0
    try:
        with os.fdopen(os.dup(1), "wb") as file:
            for piece in pieces:
                file.write(piece)
                size += len(piece)
    except OSError as error:
        msg = f"cannot write to stdout: {error.strerror}"
        raise WriteError(msg) from error
    return size


def holds(path: Path, pieces: Iterable[bytes]) -> bool:
    """Whether a file is exactly these bytes; stops at the first difference."""
    try:
        with path.open("rb") as file:
            return all(file.read(len(piece)) == piece for piece in pieces) and not file.read(1)
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror}"
        raise UsageError(msg) from error


def refuse_special(path: Path) -> None:
    """Refuse to put a dataset where something else than a file is."""
    if path.is_dir():
        msg = f"{path} is a folder: name the file to write in it"
        raise UsageError(msg)
    if path.exists() and not path.is_file():
        msg = f"{path} is not a regular file: write to one, or use --stdout"
        raise UsageError(msg)


def _partial(path: Path) -> Path:
    """The file to write to first; it has a short name where the long one would be too long for a folder."""
    name = f".{path.name}.partial"
    if len(os.fsencode(name)) > _LONGEST_NAME:
        name = f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:32]}.partial"
    return path.with_name(name)


@contextlib.contextmanager
def _own(partial: Path) -> Iterator[BinaryIO]:
    """The file to write to, locked and empty, even where a killed run left it; removed unless moved away."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(partial, flags, 0o666), "ab", buffering=0) as raw:
        try:
            fcntl.flock(raw, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = os.path.samestat(partial.stat(), os.fstat(raw.fileno()))
        except (BlockingIOError, FileNotFoundError):
            mine = False
        if not mine:
            msg = f"{partial} is being written by another run: wait for it, or choose another --output"
            raise UsageError(msg)
        try:
            raw.truncate(0)
            with os.fdopen(os.dup(raw.fileno()), "wb") as file:
                yield file
        finally:
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(partial.stat(), os.fstat(raw.fileno())):
                    partial.unlink()
