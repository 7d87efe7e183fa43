"""Writes a dataset to a file or to stdout, and says in a sentence why it cannot."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from pathlib import Path

from trt_dp.errors import UsageError, WriteError
from trt_dp.system.safe_files import atomic_write


def write_file(path: Path, pieces: Iterable[bytes]) -> int:
    """Write a file completely or not at all; returns its size."""
    size, left = 0, iter(pieces)
    try:
        first = next(left, b"")  # invalid input is refused before a folder is made
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            for piece in itertools.chain([first], left):
                file.write(piece)
                size += len(piece)
    except BlockingIOError as error:
        msg = f"{path} is being written by another process: wait for it, or choose another --output"
        raise UsageError(msg) from error
    except OSError as error:
        msg = f"cannot write {path}: {error.strerror} (after {size / 1e6:,.1f} MB). No partial file is left"
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
    """Refuse to write a dataset over anything but a file."""
    if path.is_dir():
        msg = f"{path} is a folder: name a file in it"
        raise UsageError(msg)
    if path.exists() and not path.is_file():
        msg = f"{path} is not a regular file: choose another --output, or use --stdout"
        raise UsageError(msg)
