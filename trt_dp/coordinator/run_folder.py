"""The run folder: one run at a time in it, and only ever the same run."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from trt_dp.coordinator import journal
from trt_dp.errors import UNREADABLE, FolderError, WriteError
from trt_dp.system import safe_files
from trt_dp.types import EngineSpec, Sampling

_OURS = ("results.jsonl", "failures.jsonl", "report.json", "index.npz", "journal", "run.json")


class Asked(Struct, frozen=True):
    """What a run is about, kept in run.json: a run that asks for anything else is another run."""

    dataset: str
    fingerprint: str
    requests: int
    engine: EngineSpec
    engine_fingerprint: str
    timing: bool
    detokenize: bool
    skip_bad: bool
    versions: dict[str, str]


_LOCK_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC
_COMPARED = {
    "fingerprint": "the dataset's content",
    "engine": "the engine",
    "engine_fingerprint": "what is in the engine's folder",
    "timing": "--no-timing",
    "detokenize": "--detokenize",
    "skip_bad": "--skip-bad",
}


class Folder:
    """An open run folder: locked for this run until closed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.journal = path / "journal"
        self.results = path / "results.jsonl"
        self.failures = path / "failures.jsonl"
        self.report = path / "report.json"
        self.logs = path / "logs"
        self._asked = path / "run.json"

    def claim(self, asked: Asked, *, fresh: bool) -> None:
        """Make this folder this run's, or go on with it; raises FolderError when it is another's.

        With `fresh`, what an earlier run left here is removed first. A run that never settled a request,
        because its engine would not load, say, leaves the folder free.
        """
        if fresh:
            _clear(self.path)
        self.logs.mkdir(exist_ok=True)
        if not self._asked.exists() or journal.is_empty(self.journal):
            if self.results.exists() or not journal.is_empty(self.journal):
                msg = f"{self.path} holds results of something else: choose another --output-dir"
                raise FolderError(msg)
            write(self._asked, msgspec.json.format(msgspec.json.encode(asked)))
            return
        earlier = self._read_asked()
        for field, name in _COMPARED.items():
            was, now = getattr(earlier, field), getattr(asked, field)
            if was != now:
                msg = (
                    f"{self.path} holds a run that differs in {name} ({_show(was)} there, {_show(now)} now): "
                    "choose another --output-dir, or start over with --fresh"
                )
                raise FolderError(msg)

    def _read_asked(self) -> Asked:
        try:
            return msgspec.json.decode(safe_files.read(self._asked), type=Asked)
        except (OSError, *UNREADABLE) as error:
            msg = f"{self._asked} cannot be read ({error}): choose another --output-dir, or start over with --fresh"
            raise FolderError(msg) from error


@contextlib.contextmanager
def open_folder(path: Path) -> Iterator[Folder]:
    """Make and lock the folder, for one run at a time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(0o775, exist_ok=True)
        _refuse_open(path)
        lock = os.fdopen(os.open(path / ".lock", _LOCK_FLAGS, 0o666), "ab")
    except OSError as error:
        msg = f"cannot use {path} as a run folder: {error.strerror}"
        raise FolderError(msg) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            msg = f"{path} is in use by another run: wait for it, or choose another --output-dir"
            raise FolderError(msg) from error
        yield Folder(path)


def _refuse_open(path: Path) -> None:
    """A folder that everybody may write to is no place for results: anybody could put others there."""
    if safe_files.open_for_all(path):
        msg = f"{path} can be written to by every user of this machine: name a folder in it (or chmod o-w it)"
        raise FolderError(msg)


def write(path: Path, content: bytes) -> None:
    """Write a small file whole or not at all."""
    try:
        with safe_files.atomic_write(path) as file:
            file.write(content + b"\n")
    except OSError as error:
        msg = f"cannot write {path}: {error.strerror}; see to that and run the same command again"
        raise WriteError(msg) from error


def _clear(path: Path) -> None:
    """Remove what a run leaves, and nothing else; run.json, which says whose it is, comes last."""
    if not (path / "run.json").exists() and any((path / name).exists() for name in _OURS):
        msg = f"{path} holds results of something else: choose another --output-dir"
        raise FolderError(msg)
    for name in _OURS:
        (path / name).unlink(missing_ok=True)
    if (path / "logs").is_dir() and not (path / "logs").is_symlink():
        shutil.rmtree(path / "logs")


def _show(value: object) -> str:
    if isinstance(value, EngineSpec):
        options = "".join(f" {key}={setting}" for key, setting in sorted(value.options.items()))
        sampling = "".join(
            f" --{name.replace('_', '-')} {getattr(value.sampling, name)}"
            for name in Sampling.__struct_fields__
            if getattr(value.sampling, name) != getattr(Sampling(), name)
        )
        return f"{value.name}{' ' + os.fspath(value.path) if value.path else ''}{options}{sampling}"
    return str(value)
