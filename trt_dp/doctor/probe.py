"""Looks, in a process of its own, at what may crash, hang or start MPI when it is imported; for `doctor`.

    python -m trt_dp.doctor.probe ANSWER plugin GROUP NAME
    python -m trt_dp.doctor.probe ANSWER tensorrt-llm

The answer is a file with a JSON list of strings: what stands in the way, or what differs.
"""

from __future__ import annotations

import importlib
import inspect
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from trt_dp import plugins
from trt_dp.doctor import signatures
from trt_dp.doctor.signatures import Record, Recorded, Version
from trt_dp.errors import TrtDpError

_HELP_SECONDS = 120


def main(words: list[str]) -> None:
    """Look, and leave the answer in a file."""
    answer, what, *rest = words
    said = obstacles(*rest) if what == "plugin" else list(compare())
    Path(answer).write_bytes(msgspec.json.encode(said))


def obstacles(group: str, name: str) -> list[str]:
    """Why this plugin cannot run here, as it says itself; a launcher is made, an engine only loaded."""
    try:
        plugin = plugins.find(group, name)
        if group == plugins.LAUNCHERS:
            plugin().close()
            return []
        why = _why_not(plugin)
    except TrtDpError as error:
        return [str(error)]
    except Exception as error:
        return [f"{type(error).__name__}: {error}"]
    return [why] if why else []


def compare() -> Iterator[str]:
    """How the installed TensorRT-LLM differs from what is recorded of it."""
    record = recorded()
    version = signatures.version_of(
        str(getattr(importlib.import_module("tensorrt_llm"), "__version__", ""))
    )
    for module, classes in record.modules.items():
        try:
            found = importlib.import_module(module)
        except Exception as error:
            yield f"{module} does not load: {type(error).__name__}: {error}"
            continue
        for name, known in classes.items():
            where = f"{module}.{name}"
            said = _class(getattr(found, name, None), known, version)
            yield from (where + difference for difference in said)
    for command, flags in record.flags.items():
        yield from _command(command, signatures.current(flags, version))


def recorded() -> Record:
    """What is known of TensorRT-LLM, from the package's data."""
    file = resources.files("trt_dp") / "data" / "trtllm_signatures.json"
    return msgspec.json.decode(file.read_bytes(), type=Record)


def _why_not(plugin: Any) -> str | None:
    """What an engine's class or module says to `why_not()`, if it has one."""
    module = sys.modules.get(getattr(plugin, "__module__", ""))
    ask = getattr(plugin, "why_not", None) or getattr(module, "why_not", None)
    why: str | None = ask() if ask else None
    return why


def _class(found: Any, known: Recorded, version: Version) -> Iterator[str]:
    """What differs, as it goes on after the name of the class."""
    if found is None:
        yield " is not there"
        return
    if known.call is not None:
        said = _call("__init__", _constructor(found), known.call, version)
        yield from (f" {difference}" for difference in said)
    for name, call in known.methods.items():
        method = getattr(found, name, None)
        if method is None:
            yield f" has no method {name!r}"
            continue
        said = _call(name, method, call, version)
        yield from (f".{name} {difference}" for difference in said)
    for name in signatures.current(known.attributes, version):
        if not _has(found, name):
            yield f" has no attribute {name!r}"
    for name in signatures.current(known.members, version):
        if not hasattr(found, name):
            yield f" has no member {name!r}"


def _constructor(found: Any) -> Any:
    """What says how it is made: the class where Python knows, its `__init__` where a binding wrote that down."""
    return found.__init__ if "__init__(" in (found.__init__.__doc__ or "") else found


def _call(name: str, function: Any, call: list[str], version: Version) -> list[str]:
    known = signatures.parse(signatures.current(call, version))
    return signatures.differences(known, signatures.overloads(name, function))


def _has(found: Any, name: str) -> bool:
    """Whether its objects have this: a property or field of the class, or what its code sets on itself."""
    if hasattr(found, name) or name in getattr(found, "__annotations__", {}):
        return True
    try:
        return re.search(rf"\bself\.{name}\b", inspect.getsource(found)) is not None
    except (OSError, TypeError):
        return False


def _command(command: str, flags: list[str]) -> Iterator[str]:
    program = shutil.which(command)
    if program is None:
        yield f"{command} is not on PATH"
        return
    said = subprocess.run(
        [program, "--help"], capture_output=True, text=True, timeout=_HELP_SECONDS, check=False
    )
    known = set(re.findall(r"--[\w-]+", said.stdout))
    yield from (f"{command} has no flag {flag}" for flag in flags if flag not in known)


if __name__ == "__main__":
    main(sys.argv[1:])
