"""Asks plugins, in a process of its own, what may crash, hang or start MPI; for `doctor`.

    python -m trt_dp.doctor.probe ANSWER plugin GROUP NAME [FOLDER SHARERS]
    python -m trt_dp.doctor.probe ANSWER differences NAME

The answer is a JSON file: an Answer for a plugin, a list of sentences for differences.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from trt_dp import plugins
from trt_dp.engines.about import (
    Room,
    about,
    advice,
    compares,
    differences,
    recognises,
    why_not,
)
from trt_dp.errors import TrtDpError
from trt_dp.placement import machine
from trt_dp.wire import certificate


class Answer(Struct, frozen=True):
    """What a plugin reports about itself, and why it cannot run here, if so."""

    why: str = ""
    needs_gpu: bool = False
    has_model: bool = True
    packages: tuple[str, ...] = ()
    compares: bool = False  # it can compare its installed library with the one it was written for
    facts: dict[str, str] = {}  # of the machine
    advice: list[str] = []


def main(words: list[str]) -> None:
    """Ask, and leave the answer in a file."""
    file, what, *rest = words
    said = ask(*rest) if what == "plugin" else differences(plugins.find(plugins.ENGINES, *rest))
    Path(file).write_bytes(msgspec.json.encode(said))


def ask(group: str, name: str, folder: str = "", sharers: str = "1") -> Answer:
    """What this plugin says; a launcher is made for it, an engine is not."""
    try:
        plugin = plugins.find(group, name)
        if group == plugins.LAUNCHERS:
            return _launcher(plugin)
        return _engine(plugin, Path(folder) if folder else None, int(sharers))
    except Exception as error:
        return Answer(_sentence(error))


def _engine(engine_class: Any, folder: Path | None, sharers: int) -> Answer:
    said = about(engine_class)
    try:
        why = why_not(engine_class) or ""
    except Exception as error:
        why = _sentence(error)
    return Answer(
        why=why,
        needs_gpu=said.needs_gpu,
        has_model=said.has_model,
        packages=said.packages,
        compares=compares(engine_class),
        advice=[] if why else _advice(engine_class, folder, sharers),
    )


def _advice(engine_class: Any, folder: Path | None, sharers: int) -> list[str]:
    """What the engine advises for a folder that is its own, or for any run."""
    if folder and not recognises(engine_class, folder):
        return []
    try:
        return advice(engine_class, folder, Room(machine.look().gpus, sharers))
    except Exception as error:
        return [_sentence(error)]


def _launcher(launcher_class: Any) -> Answer:
    describe = getattr(launcher_class, "describe", dict)
    packages = getattr(launcher_class, "packages", ())
    return Answer(why=_why_not_launched(launcher_class), packages=packages, facts=describe())


def _why_not_launched(launcher_class: Any) -> str:
    """What keeps a launcher from being used here; one that starts agents is nothing without hosts, and is not made."""
    if hasattr(launcher_class, "begin"):
        own = getattr(launcher_class, "why_not", lambda: None)()
        return own or certificate.why_not() or ""
    try:
        launcher_class().close()
    except TrtDpError as error:
        return str(error)
    return ""


def _sentence(error: Exception) -> str:
    return str(error) if isinstance(error, TrtDpError) else f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    main(sys.argv[1:])
