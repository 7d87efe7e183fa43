"""Folders that others can write to: what is read is this user's own, no link is followed, no module imported."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from pathlib import Path
from typing import BinaryIO

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH

_RUN = (
    "import sys, runpy; sys.path[:] = [place for place in sys.path if place]\n"
    "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)


def python(module: str, *words: str) -> list[str]:
    """The command that runs a module as `python -m` does, but never imports from the current folder."""
    return [sys.executable, "-c", _RUN, module, *words]


def look_into(path: Path) -> BinaryIO:
    """Open a regular file to read; anything else there, which one might wait on for ever, is an OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return os.fdopen(descriptor, "rb")


def read(path: Path) -> bytes:
    """The content of a regular file; OSError for anything else."""
    with look_into(path) as file:
        return file.read()


def is_mine(file: BinaryIO) -> bool:
    """Whether only this user could have written an open file."""
    found = os.fstat(file.fileno())
    return found.st_uid == os.geteuid() and not found.st_mode & _OTHERS_WRITE


def another_s(path: Path) -> bool:
    """Whether something is there that belongs to another user; a link is looked at, not followed."""
    try:
        return path.lstat().st_uid != os.geteuid()
    except OSError:
        return False


def create(path: Path, mode: int = 0o666, buffering: int = -1) -> BinaryIO:
    """A new file to write to, in place of whatever had its name; never through a link."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, mode), "wb", buffering)


def open_for_all(path: Path) -> bool:
    """Whether every user of the machine may write into this folder."""
    try:
        return bool(path.stat().st_mode & stat.S_IWOTH)
    except OSError:
        return False
