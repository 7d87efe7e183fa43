"""Runs the tools of TensorRT-LLM: finds them, keeps all that they say in a log, and ends them with this process."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from trt_dp.builders import Watch
from trt_dp.errors import BuildFailed, UsageError
from trt_dp.placement.environment import clean
from trt_dp.system import open_mpi
from trt_dp.system.guarded import Guarded

LOG = "build.log"
WINDOW = "TensorRT-LLM 1.0 to 1.2.x (or 1.3.0rc0 to rc20, the last with engines)"
_INSTALL = (
    "pip install 'tensorrt_llm>=1.0,<1.3', or run this in the container "
    "nvcr.io/nvidia/tensorrt-llm/release:1.2.1"
)
_LAST_CANDIDATE = 20  # 1.3.0rc20 is the last version with a TensorRT engine
_LOOK_SECONDS = 0.1
_GRACE_SECONDS = 30.0
_LAST_LINES = 20
_SHOWN_STATUS = 125  # shells keep those above for what they have to say themselves
_VERSION = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?(?:\.?(a|b|rc|dev)(\d+))?")
_PACKAGES = ("tensorrt_llm", "tensorrt", "tensorrt_cu12", "tensorrt_cu13", "torch", "transformers")
_ENVIRONMENT = {
    "PYTHONUNBUFFERED": "1",  # the log is looked at while they work
    "PYTHONSAFEPATH": "1",  # in a clone of TensorRT-LLM, -m would find its sources before what is installed
}
_STAGES = (  # what they are known to say, and what it means; other lines change nothing
    (re.compile(r"trt-dp: (.*)"), r"\1"),
    (re.compile(r"Total time of constructing network"), "TensorRT optimises it"),
    (re.compile(r"Serializing engine to \S*?([^/\s]+?)\.*$"), r"writing \1"),
    (re.compile(r"Engine serialized"), "written"),
    (re.compile(r"Loading calibration dataset"), "loading the calibration dataset"),
    (re.compile(r"Starting quantization"), "calibrating"),
)


class Tools:
    """Runs tools one after the other, with one log in a folder, and knows how long each took."""

    def __init__(self, folder: Path, watch: Watch) -> None:
        self.seconds: dict[str, float] = {}
        self._log = folder / LOG
        self._watch = watch

    def run(self, phase: str, line: Sequence[str]) -> str:
        """Run it to its end and return its output; raises BuildFailed with its status and its last lines."""
        started = time.perf_counter()
        with self._log.open("ab", buffering=0) as log:
            log.write(f"$ {shlex.join(line)}\n".encode())
            begin = log.tell()
        process = _start(line, self._log)
        try:
            status = self._follow(phase, process, begin)
        finally:
            _end(process)
        self.seconds[phase] = round(time.perf_counter() - started, 3)
        said = self._said(begin)
        if status:
            raise BuildFailed(*_failure(line, status, said))
        return said

    def _follow(self, phase: str, process: Guarded, begin: int) -> int:
        """Show where it is until it and all that it started have ended; gives its status."""
        stage, rest = "", b""
        with self._log.open("rb") as log:
            log.seek(begin)
            while True:
                status = process.poll()
                *lines, rest = (rest + log.read()).split(b"\n")
                for line in lines:
                    stage = _stage(line.decode(errors="replace")) or stage
                self._watch(f"{phase}: {stage}" if stage else phase, 0, 0)
                if status is not None:
                    return status
                time.sleep(_LOOK_SECONDS)

    def _said(self, begin: int) -> str:
        with self._log.open("rb") as log:
            log.seek(begin)
            return log.read().decode(errors="replace")


def _start(line: Sequence[str], log: Path) -> Guarded:
    """Start a tool, which starts MPI when it imports TensorRT-LLM; MPI's files go when it ends."""
    scratch = open_mpi.scratch_path()
    Path(scratch).mkdir(mode=0o700)
    environment = {**open_mpi.settings(scratch), **clean(os.environ), **_ENVIRONMENT}
    return Guarded(line, environment, (), log, scratch)


def supported() -> str:
    """The installed version, by its metadata alone; raises UsageError unless it builds TensorRT engines."""
    try:
        found = version("tensorrt_llm")
    except PackageNotFoundError as error:
        msg = f"TensorRT-LLM is not installed for {sys.executable}; this needs {WINDOW}: {_INSTALL}"
        raise UsageError(msg) from error
    if not builds_engines(found):
        msg = f"TensorRT-LLM {found} is installed, and this needs {WINDOW}: {_INSTALL}"
        raise UsageError(msg)
    return found


def builds_engines(found: str) -> bool:
    """Whether trtllm-build of this version is one that this knows: 1.0 <= version < 1.3, or 1.3.0rc0 to rc20."""
    parts = _VERSION.match(found)
    if parts is None:
        return False
    release = (int(parts[1]), int(parts[2]), int(parts[3] or 0))
    if release == (1, 3, 0):
        return parts[4] == "rc" and int(parts[5]) <= _LAST_CANDIDATE
    early = release == (1, 0, 0) and parts[4] is not None
    return (1, 0, 0) <= release < (1, 3, 0) and not early


def find(name: str) -> str | None:
    """The tool next to this Python, which is the version that was looked up, or else the one on the PATH."""
    beside = Path(sys.executable).parent / name
    return str(beside) if os.access(beside, os.X_OK) else shutil.which(name)


def refuse_unknown(tool: str, flags: Sequence[str], help_text: str) -> None:
    """Raises UsageError for flags that this tool's own help does not name: better now than after the conversion."""
    known = set(re.findall(r"--\w[\w-]*", help_text))
    unknown = [flag for flag in flags if not any(name.startswith(flag) for name in known)]
    if known and unknown:
        msg = f"{Path(tool).name} here has no {', '.join(unknown)}; {tool} --help lists what it has"
        raise UsageError(msg)


def versions() -> dict[str, str]:
    """The versions that an engine depends on, as far as they are installed."""
    found = {}
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _stage(line: str) -> str:
    for pattern, means in _STAGES:
        if match := pattern.search(line):
            return match.expand(means)
    return ""


def _failure(line: Sequence[str], status: int, said: str) -> tuple[str, int]:
    """What to say of a tool that ended badly, and the status to end with."""
    name = "the conversion" if "-m" in line else Path(line[0]).name
    how = f"ended with status {status}"
    if status < 0:
        how = f"was killed by signal {-status}"
        how += " (has the machine too little memory?)" if status == -signal.SIGKILL else ""
    last = said.rstrip().splitlines()[-_LAST_LINES:] or ["(nothing)"]
    listed = "".join(f"\n  {text}" for text in last)
    return f"{name} {how}; its last lines:{listed}", status if 0 < status <= _SHOWN_STATUS else 1


def _end(process: Guarded) -> None:
    """End what is left of it, and all that it has started."""
    process.kill()
    until = time.monotonic() + _GRACE_SECONDS
    while process.poll() is None and time.monotonic() < until:
        time.sleep(_LOOK_SECONDS)
