"""examine(): what is installed, what this machine has, and what of trt-dp can run here.

Nothing heavy is imported here: what might crash or hang is asked of `probe`, in a guarded process with a time limit.
"""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec
from msgspec import Struct

from trt_dp import plugins
from trt_dp.doctor.probe import Answer
from trt_dp.errors import PlacementError
from trt_dp.placement import gpus, machine
from trt_dp.placement.environment import clean
from trt_dp.placement.gpus import Gpu
from trt_dp.system import open_mpi, safe_files
from trt_dp.system.guarded import Guarded

_PACKAGES = ("trt-dp", "numpy", "msgspec", "tokenizers", "transformers")
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - its size is looked at
_LOOK_SECONDS = 0.02
_KILLED_SECONDS = 10.0


class Ability(Struct, frozen=True):
    """Whether a plugin can run here, and why not."""

    kind: str
    name: str
    able: bool
    why: str = ""
    has_model: bool = True


class Examination(Struct, frozen=True):
    """All that was found; a version is empty where the package is not installed."""

    versions: dict[str, str]
    machine: dict[str, str]
    gpus: list[Gpu]
    abilities: list[Ability]
    differences: dict[str, list[str]]  # by engine: its installed library, against the one it knows
    advice: dict[str, list[str]] = {}  # by engine: what would go wrong in a run, and what to do

    @property
    def healthy(self) -> bool:
        """Whether an engine with a model can run here."""
        return any(one.able and one.has_model for one in self.abilities if one.kind == "engine")


def examine(seconds: float = 120.0, folder: str = "", sharers: int = 1) -> Examination:
    """Look at everything; each plugin that is asked may take this long.

    With the folder of an engine, also at what it needs with so many workers on each GPU.
    """
    more = (folder, str(sharers))
    engines = {
        name: _answer(plugins.ENGINES, name, seconds, *more) for name in _names(plugins.ENGINES)
    }
    launchers = {
        name: _answer(plugins.LAUNCHERS, name, seconds) for name in _names(plugins.LAUNCHERS)
    }
    answers = [*engines.values(), *launchers.values()]
    return Examination(
        versions={"python": platform.python_version()} | _versions(answers),
        machine=_machine() | {key: text for one in answers for key, text in one.facts.items()},
        gpus=gpus.describe(),
        abilities=[
            *(_ability("engine", name, answer) for name, answer in engines.items()),
            *(_ability("launcher", name, answer) for name, answer in launchers.items()),
        ],
        advice={name: one.advice for name, one in engines.items() if one.advice},
        differences={
            name: _differences(name, seconds) for name, one in engines.items() if one.compares
        },
    )


def why_not(engine: str, seconds: float = 120.0) -> str:
    """What keeps an engine from running here, asked in a process of its own; empty if nothing does."""
    return _ability("engine", engine, _answer(plugins.ENGINES, engine, seconds)).why


def _versions(answers: Iterable[Answer]) -> dict[str, str]:
    """Of the packages that matter to trt-dp and to its plugins."""
    asked = [*_PACKAGES, *(package for one in answers for package in one.packages)]
    return {name: _version(name) for name in dict.fromkeys(asked)}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _machine() -> dict[str, str]:
    setting = os.environ.get("CUDA_VISIBLE_DEVICES")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": str(len(machine.usable_cores())),
        "memory": f"{memory / 2**30:.1f} GiB",
        _SHARED_MEMORY: _shared_memory(),
        "CUDA_VISIBLE_DEVICES": "not set" if setting is None else repr(setting),
        "devices for workers": _devices(),
    }


def _shared_memory() -> str:
    try:
        usage = shutil.disk_usage(_SHARED_MEMORY)
    except OSError as error:
        return f"none: {error.strerror}"
    return f"{usage.total / 2**30:.1f} GiB, {usage.free / 2**30:.1f} GiB free"


def _devices() -> str:
    try:
        devices = machine.look().gpus
    except PlacementError as error:
        return str(error)
    return ", ".join(devices) if devices else "no GPU: workers run on CPU cores"


def _names(group: str) -> list[str]:
    return list(dict.fromkeys(point.name for point in plugins.names(group)))


def _ability(kind: str, name: str, answer: Answer) -> Ability:
    why = answer.why
    if not why and answer.needs_gpu and not _has_gpu():
        why = "there is no GPU here"
    return Ability(kind=kind, name=name, able=not why, why=why, has_model=answer.has_model)


def _has_gpu() -> bool:
    try:
        return bool(machine.look().gpus)
    except PlacementError:
        return False


def _answer(group: str, name: str, seconds: float, *more: str) -> Answer:
    """What a plugin reports about itself, or why it could not."""
    said = _ask(["plugin", group, name, *more], seconds)
    return Answer(said) if isinstance(said, str) else msgspec.json.decode(said, type=Answer)


def _differences(name: str, seconds: float) -> list[str]:
    """How an engine's installed library differs from the one it was written for, or why that is unknown."""
    said = _ask(["differences", name], seconds)
    return [said] if isinstance(said, str) else msgspec.json.decode(said, type=list[str])


def _ask(words: Sequence[str], seconds: float) -> bytes | str:
    """A probe's answer; if it gives none, a sentence that says what happened to it."""
    with tempfile.TemporaryDirectory() as folder:
        answer, log = Path(folder) / "answer", Path(folder) / "log"
        command = safe_files.python("trt_dp.doctor.probe", str(answer), *words)
        scratch = open_mpi.scratch_path()
        environment = {**clean(os.environ), open_mpi.SCRATCH: scratch}
        process = Guarded(command, environment, (), log, scratch)
        if not _wait(process, seconds):
            process.kill()
            _wait(process, _KILLED_SECONDS)
            return f"it did not load in {seconds:.0f} s"
        if answer.exists():
            return answer.read_bytes()
        last = (log.read_text(errors="replace").strip().splitlines() or ["it printed nothing"])[-1]
        return f"loading it ends the process with status {process.poll()}: {last}"


def _wait(process: Guarded, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while process.poll() is None:
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_SECONDS)
    return True
