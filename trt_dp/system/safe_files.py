"""Files in folders that others may write to: a file appears whole or not at all, and no link is followed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from trt_dp.errors import UNREADABLE, BrokenFile

_LONGEST_NAME = 255
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH

_RUN = (
    "import sys, runpy; sys.path[:] = [place for place in sys.path if place]\n"
    "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)


def python(module: str, *words: str) -> list[str]:
    """The command that runs a module like `python -m`, but never imports from the current folder."""
    return [sys.executable, "-c", _RUN, module, *words]


def look_into(path: Path) -> BinaryIO:
    """Open a regular file to read. Anything else, such as a pipe that never ends, is an OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return os.fdopen(descriptor, "rb")


def read(path: Path) -> bytes:
    """The content of a regular file; OSError for anything else."""
    with look_into(path) as file:
        return file.read()


def read_json(path: Path) -> dict[str, Any]:
    """The fields of a small JSON file, none where there is no file; raises BrokenFile unless it is an object."""
    try:
        return msgspec.json.decode(read(path), type=dict[str, Any])
    except FileNotFoundError:
        return {}
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}"
        raise BrokenFile(msg) from error
    except UNREADABLE as error:
        msg = f"{path} is not valid JSON: {error}"
        if isinstance(error, msgspec.ValidationError):
            msg = f"{path} is not a JSON object"
        raise BrokenFile(msg) from error


def is_mine(file: BinaryIO) -> bool:
    """Whether only this user could have written an open file."""
    found = os.fstat(file.fileno())
    return found.st_uid == os.geteuid() and not found.st_mode & _OTHERS_WRITE


def another_s(path: Path) -> bool:
    """Whether a file there belongs to another user; a link is not followed."""
    try:
        return path.lstat().st_uid != os.geteuid()
    except OSError:
        return False


@contextlib.contextmanager
def atomic_write(
    path: Path, *, mode: int = 0o666, buffering: int = -1, sync: bool = False
) -> Iterator[BinaryIO]:
    """A file that appears under `path` when the block ends, whole; after any exception nothing is left.

    It is written beside `path`, never through a link. What a killed process left there is replaced; raises
    BlockingIOError while another process writes the same file, and any other OSError as it comes.
    """
    partial = partial_path(path)
    with os.fdopen(_claim(partial, mode), "wb", buffering) as file:
        try:
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise


def partial_path(path: Path) -> Path:
    """Where a file is written before it gets its name; short enough for every legal name."""
    name = f".{path.name}.partial"
    if len(os.fsencode(name)) > _LONGEST_NAME:
        name = f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:32]}.partial"
    return path.with_name(name)


def _claim(partial: Path, mode: int) -> int:
    """A new file, locked by this process."""
    _remove_leftover(partial)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(partial, flags, mode)
    try:
        _lock(descriptor, partial)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _remove_leftover(partial: Path) -> None:
    """Remove a link, or the file of a process that was killed; its lock shows whether one still writes it."""
    if partial.is_symlink():
        partial.unlink()
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        _lock(descriptor, partial)
        partial.unlink()
    finally:
        os.close(descriptor)


def _lock(descriptor: int, partial: Path) -> None:
    """Lock an open file. Only the holder of the lock removes or renames the file, so check the name afterwards."""
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        mine = os.path.samestat(partial.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        mine = False
    if not mine:
        raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK), str(partial))


def open_for_all(path: Path) -> bool:
    """Whether every user of the machine may write into this folder."""
    try:
        return bool(path.stat().st_mode & stat.S_IWOTH)
    except OSError:
        return False
