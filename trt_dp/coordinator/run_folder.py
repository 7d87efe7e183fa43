"""The run folder: one run at a time uses it, and it only ever holds one run."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from trt_dp.coordinator.record import journal
from trt_dp.errors import UNREADABLE, FolderError, WriteError
from trt_dp.system import safe_files
from trt_dp.types import Defaults, EngineSpec, Sampling

_OURS = (
    "results.jsonl",
    "failures.jsonl",
    "report.json",
    "report.html",
    "events.jsonl",
    "status.json",
    "index.npz",
    "journal",
    "answers.jsonl",
    "answers.csv",
    "answers.parquet",
    "answers.txt",
    "batch_output.jsonl",
    "batch_errors.jsonl",
    "run.json",
)


class Asked(Struct, frozen=True, kw_only=True):
    """What a run was asked to do, kept in run.json; values of secret settings are not in it."""

    dataset: str
    fingerprint: str
    requests: int
    engine: EngineSpec
    engine_fingerprint: str
    source: str = ""  # the file that workers read
    timing: bool
    detokenize: bool
    skip_bad: bool
    keep_special_tokens: bool = False
    defaults: Defaults = Defaults()
    versions: dict[str, str]


_LOCK_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC
_START_OVER = "Choose another --output, or start over with --fresh"
_SWITCHES = {
    "timing": "--no-timing",
    "detokenize": "--detokenize",
    "skip_bad": "--skip-bad",
    "keep_special_tokens": "--keep-special-tokens",
}


class Folder:
    """An open run folder: locked for this run until closed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.journal = path / "journal"
        self.results = path / "results.jsonl"
        self.failures = path / "failures.jsonl"
        self.report = path / "report.json"
        self.page = path / "report.html"
        self.events = path / "events.jsonl"
        self.logs = path / "logs"
        self._asked = path / "run.json"

    def claim(self, asked: Asked, *, fresh: bool) -> None:
        """Take this folder for this run, or resume the run in it; raises FolderError when it is another run's.

        With `fresh`, what an earlier run left here is removed first. A run that never completed a request,
        because its engine would not load, say, leaves the folder free.
        """
        if fresh:
            _clear(self.path)
        if not self._asked.exists() and (inside := _runs_in(self.path)):
            msg = f"{self.path} holds other runs, such as {inside}. Name a new folder in it, or one of these to resume"
            raise FolderError(msg)
        self.logs.mkdir(exist_ok=True)
        if self._asked.exists() and not journal.is_empty(self.journal):
            self._check_same(asked)
            return
        if self.results.exists() or not journal.is_empty(self.journal):
            raise FolderError(_not_ours(self.path))
        write(self._asked, msgspec.json.format(msgspec.json.encode(asked)))

    def leave(self) -> None:
        """Remove a folder that holds no run: one that was made for a run that did not begin."""
        if not any((self.path / name).exists() for name in _OURS):
            with contextlib.suppress(OSError):
                (self.path / ".lock").unlink()
                self.path.rmdir()

    def asked(self) -> Asked:
        """What the run in this folder was asked to do."""
        return self._read_asked()

    def _check_same(self, asked: Asked) -> None:
        """Raises FolderError unless the run in this folder was asked to do the same."""
        change = _change(self._read_asked(), asked)
        if change:
            msg = f"cannot resume the run in {self.path}: {change}. {_START_OVER}"
            raise FolderError(msg)

    def _read_asked(self) -> Asked:
        try:
            return msgspec.json.decode(safe_files.read(self._asked), type=Asked)
        except (OSError, *UNREADABLE) as error:
            msg = f"{self._asked} cannot be read ({error}). {_START_OVER}"
            raise FolderError(msg) from error


@contextlib.contextmanager
def open_folder(path: Path) -> Iterator[Folder]:
    """Make and lock the folder, for one run at a time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(0o775, exist_ok=True)
        _refuse_open(path)
        lock = os.fdopen(os.open(path / ".lock", _LOCK_FLAGS, 0o666), "ab")
    except FileExistsError as error:
        msg = f"cannot use {path} as a run folder: there is a file in its place. Choose another --output"
        raise FolderError(msg) from error
    except OSError as error:
        msg = f"cannot use {path} as a run folder: {error.strerror}. Choose another --output"
        raise FolderError(msg) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            msg = f"{path} is in use by another run. Wait for it, or choose another --output"
            raise FolderError(msg) from error
        yield Folder(path)


def _refuse_open(path: Path) -> None:
    """Refuse a folder that everybody may write to: anybody could put other results there."""
    if safe_files.open_for_all(path):
        msg = f"{path} can be written to by every user of this machine. Name a folder in it, or run chmod o-w on it"
        raise FolderError(msg)


def write(path: Path, content: bytes) -> None:
    """Write a small file completely or not at all."""
    try:
        with safe_files.atomic_write(path) as file:
            file.write(content + b"\n")
    except OSError as error:
        msg = f"cannot write {path}: {error.strerror}. Fix the cause, then repeat the command"
        raise WriteError(msg) from error


def _clear(path: Path) -> None:
    """Remove what a run leaves, and nothing else; run.json, which says whose it is, comes last."""
    if not (path / "run.json").exists() and any((path / name).exists() for name in _OURS):
        raise FolderError(_not_ours(path))
    for name in _OURS:
        (path / name).unlink(missing_ok=True)
    if (path / "logs").is_dir() and not (path / "logs").is_symlink():
        shutil.rmtree(path / "logs")


def _runs_in(path: Path) -> str:
    """The name of a run in a folder, empty if it holds none."""
    return next((found.parent.name for found in sorted(path.glob("*/run.json"))), "")


def _not_ours(path: Path) -> str:
    return f"{path} has results that are not from trt-dp run. Choose another --output"


def _change(earlier: Asked, now: Asked) -> str | None:
    """What makes these two different runs, as a sentence."""
    if earlier.fingerprint != now.fingerprint:
        return "the dataset changed since this run started"
    if (earlier.engine, earlier.defaults) != (now.engine, now.defaults):
        return f"it was started with {_show(earlier)}, not with {_show(now)}"
    if earlier.engine_fingerprint != now.engine_fingerprint:
        return "the engine changed since this run started"
    for field, option in _SWITCHES.items():
        if getattr(earlier, field) != getattr(now, field):
            return f"{option} must be as it was when this run started"
    return None


def _show(asked: Asked) -> str:
    """An engine and its sampling as a user asks for them."""
    engine, defaults = asked.engine, asked.defaults
    path = [engine.path] if engine.path else []
    options = [f"--set {key}={value}" for key, value in sorted(engine.options.items())]
    said = [*_flags(defaults.sampling, Sampling()), *_flags(defaults, Defaults())]
    return " ".join([f"--engine {engine.name}", *path, *options, *said])


def _flags(settings: Sampling | Defaults, plain: Sampling | Defaults) -> list[str]:
    """What differs from the defaults, as flags."""
    changed = {
        name: getattr(settings, name)
        for name in settings.__struct_fields__
        if name != "sampling" and getattr(settings, name) != getattr(plain, name)
    }
    return [_flag(name.replace("_", "-"), value) for name, value in changed.items()]


def _flag(name: str, value: object) -> str:
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    if isinstance(value, tuple):
        return " ".join(f"--{name} {one!r}" for one in value)
    return f"--{name} {value}"
