"""How the installed TensorRT-LLM differs from the names that this package uses of it, for `trt-dp doctor`."""

from __future__ import annotations

import importlib
import inspect
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib import resources
from typing import Any

import msgspec

from trt_dp.engines.trtllm import signatures
from trt_dp.engines.trtllm.signatures import Record, Recorded, Version

_HELP_SECONDS = 120


def compare() -> Iterator[str]:
    """How the installed TensorRT-LLM differs from what is recorded of it."""
    version = signatures.version_of(
        str(getattr(importlib.import_module("tensorrt_llm"), "__version__", ""))
    )
    yield from of_record(recorded(), version)


def of_record(record: Record, version: Version) -> Iterator[str]:
    """How an installed library differs from its record."""
    for module, classes in record.modules.items():
        try:
            found = importlib.import_module(module)
        except Exception as error:  # noqa: BLE001  whatever loading raises is the answer
            yield f"{module} does not load: {type(error).__name__}: {error}"
            continue
        for name, known in classes.items():
            where = f"{module}.{name}"
            said = _class(getattr(found, name, None), known, version)
            yield from (where + difference for difference in said)
    for command, flags in record.flags.items():
        yield from _command(command, signatures.current(flags, version))


def recorded() -> Record:
    """What is known about TensorRT-LLM, from the data next to this file."""
    file = resources.files(__package__) / "signatures.json"
    return msgspec.json.decode(file.read_bytes(), type=Record)


def _class(found: Any, known: Recorded, version: Version) -> Iterator[str]:
    """What differs, worded to follow the name of the class."""
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
