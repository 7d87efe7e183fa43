"""Asks plugins, in a process of its own, what may crash, hang or start MPI; for `doctor`.

    python -m trt_dp.doctor.probe ANSWER plugin GROUP NAME
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
from trt_dp.engines.about import about, compares, differences, why_not
from trt_dp.errors import TrtDpError


class Answer(Struct, frozen=True):
    """What a plugin says of itself, and why it cannot run here, if so."""

    why: str = ""
    needs_gpu: bool = False
    has_model: bool = True
    packages: tuple[str, ...] = ()
    compares: bool = False  # it can compare its installed library with the one it was written for
    facts: dict[str, str] = {}  # of the machine


def main(words: list[str]) -> None:
    """Ask, and leave the answer in a file."""
    file, what, *rest = words
    said = ask(*rest) if what == "plugin" else differences(plugins.find(plugins.ENGINES, *rest))
    Path(file).write_bytes(msgspec.json.encode(said))


def ask(group: str, name: str) -> Answer:
    """What this plugin says; a launcher is made for it, an engine is not."""
    try:
        plugin = plugins.find(group, name)
        return _launcher(plugin) if group == plugins.LAUNCHERS else _engine(plugin)
    except Exception as error:
        return Answer(_sentence(error))


def _engine(engine_class: Any) -> Answer:
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
    )


def _launcher(launcher_class: Any) -> Answer:
    describe = getattr(launcher_class, "describe", dict)
    why = ""
    try:
        launcher_class().close()
    except TrtDpError as error:
        why = str(error)
    packages = getattr(launcher_class, "packages", ())
    return Answer(why=why, packages=packages, facts=describe())


def _sentence(error: Exception) -> str:
    return str(error) if isinstance(error, TrtDpError) else f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    main(sys.argv[1:])
