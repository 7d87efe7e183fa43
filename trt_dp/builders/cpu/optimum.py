"""The other route: optimum-intel exports what this package has no graph for; it brings torch with it."""

from __future__ import annotations

import shlex
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from trt_dp.builders import Watch
from trt_dp.errors import UsageError

FORMATS = {"f32": "fp32", "f16": "fp16", "int8": "int8", "int4": "int4"}
_PACKAGES = ("optimum-intel", "openvino", "torch", "transformers", "nncf")
_PATIENCE_SECONDS = 1.0


def build(model: Path, into: Path, watch: Watch, *, precision: str, via: str) -> dict[str, object]:
    """Export with the tool named `via`; raises UsageError where there is none, or it fails."""
    if via != "optimum":
        msg = f"there is no way to build via {via!r}; known: optimum"
        raise UsageError(msg)
    if precision not in FORMATS:
        msg = f"optimum has no precision {precision!r}; known: {', '.join(FORMATS)}"
        raise UsageError(msg)
    if not installed():
        msg = "optimum-intel is not installed here; pip install 'optimum-intel[openvino]', or remove --via"
        raise UsageError(msg)
    if not model.is_dir():  # optimum would look for it on the network
        msg = f"{model} is not a folder; give the folder of a Hugging Face checkpoint"
        raise UsageError(msg)
    _export(command(model, into, precision), watch)
    if not (into / "openvino_model.xml").is_file():
        msg = f"optimum made no openvino_model.xml of {model}; it may not be a language model"
        raise UsageError(msg)
    return {"via": via, "precision": precision, "versions": _versions()}


def installed() -> bool:
    """Whether both halves of the exporter are there; nothing is imported but the empty package."""
    try:
        return bool(find_spec("optimum.commands") and find_spec("optimum.intel"))
    except ModuleNotFoundError:
        return False


def command(model: Path, into: Path, precision: str) -> list[str]:
    """The command line that exports a checkpoint for text generation with a cache."""
    line = [sys.executable, "-m", "optimum.commands.optimum_cli", "export", "openvino"]
    task = ["--task", "text-generation-with-past", "--weight-format", FORMATS[precision]]
    return [*line, "--model", str(model), *task, str(into)]


def _export(line: list[str], watch: Watch) -> None:
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(line, stdout=said, stderr=subprocess.STDOUT)
        try:
            _wait(process, watch)
        finally:  # an interrupt must not leave it behind
            process.kill()
            process.wait()
        if process.returncode:
            why = f"status {process.returncode}, {_last_line(said)}"
            msg = f"optimum could not export it ({why}); run {shlex.join(line)} to see its full output"
            raise UsageError(msg)


def _wait(process: subprocess.Popen[bytes], watch: Watch) -> None:
    """It says nothing of how far it is, and may take as long as the model is large."""
    while True:
        watch("exporting with optimum", 0, 1)
        try:
            process.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        watch("exporting with optimum", 1, 1)
        return


def _last_line(said: IO[bytes]) -> str:
    said.seek(0)
    lines = said.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it printed nothing"


def _versions() -> dict[str, str]:
    found = {package: _version(package) for package in _PACKAGES}
    return {package: number for package, number in found.items() if number}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
