"""examine(): what is installed, what this machine has, and what of trt-dp can run here.

Nothing heavy is imported here: what might crash or hang is asked of `probe`, in a guarded process with a time limit.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec
from msgspec import Struct

from trt_dp import plugins
from trt_dp.errors import PlacementError
from trt_dp.launchers.mpi.launcher import find_mpirun
from trt_dp.placement import plan as placement
from trt_dp.system import safe_files
from trt_dp.system.guarded import Guarded

_PACKAGES = (
    "trt-dp", "numpy", "msgspec", "openvino", "openvino-genai", "tensorrt-llm", "tensorrt",
    "torch", "transformers", "tokenizers", "mpi4py",
)  # fmt: skip
_GPU_FIELDS = ("index", "uuid", "name", "memory.total", "driver_version", "mig.mode.current")
_INSTRUMENTS = ("echo",)  # engines without a model: they can run anywhere, and prove nothing
_ON_GPUS = ("trtllm", "trtllm-torch")
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - its size is looked at
_ASK_SECONDS = 15
_LOOK_SECONDS = 0.02
_KILLED_SECONDS = 10.0


class Gpu(Struct, frozen=True):
    """A GPU as nvidia-smi tells of it."""

    index: str
    uuid: str
    name: str
    memory_mib: str
    driver: str
    mig: str


class Ability(Struct, frozen=True):
    """Whether a plugin can run here, and why not."""

    kind: str
    name: str
    able: bool
    why: str = ""


class Examination(Struct, frozen=True):
    """All that was found; a version is empty where the package is not installed."""

    versions: dict[str, str]
    machine: dict[str, str]
    gpus: list[Gpu]
    mpi: str
    abilities: list[Ability]
    tensorrt_llm: list[str]

    @property
    def healthy(self) -> bool:
        """Whether an engine with a model can run here."""
        engines = [one for one in self.abilities if one.kind == "engine"]
        return any(one.able for one in engines if one.name not in _INSTRUMENTS)


def examine(seconds: float = 120.0) -> Examination:
    """Look at everything; each thing that is loaded for it may take this long."""
    versions = {"python": platform.python_version()} | {name: _version(name) for name in _PACKAGES}
    return Examination(
        versions,
        _machine(),
        _gpus(),
        _mpi(),
        [
            *(_ability(plugins.ENGINES, name, seconds) for name in _names(plugins.ENGINES)),
            *(_ability(plugins.LAUNCHERS, name, seconds) for name in _names(plugins.LAUNCHERS)),
        ],
        _differences(seconds) if versions["tensorrt-llm"] else [],
    )


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
        "cores": str(len(placement.usable_cores())),
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
        gpus = placement.look().gpus
    except PlacementError as error:
        return str(error)
    return ", ".join(gpus) if gpus else "no GPU: workers run on cores"


def _gpus() -> list[Gpu]:
    """What nvidia-smi lists; nothing where it is not there or cannot say."""
    query = [f"--query-gpu={','.join(_GPU_FIELDS)}", "--format=csv,noheader,nounits"]
    said = _output(["nvidia-smi", *query])
    rows = [[cell.strip() for cell in line.split(",")] for line in said.splitlines()]
    return [Gpu(*row) for row in rows if len(row) == len(_GPU_FIELDS)]


def _mpi() -> str:
    """Which mpirun the launcher mpi would use, and of which MPI it is."""
    mpirun = find_mpirun()
    if mpirun is None:
        return "no mpirun"
    said = _output([mpirun, "--version"])
    if found := re.search(r"\(Open MPI\) (\S+)", said):
        return f"Open MPI {found[1]}: {mpirun}"
    if "HYDRA" in said:
        found = re.search(r"Version:\s*(\S+)", said)
        return f"MPICH {found[1] if found else '?'}: {mpirun}"
    return f"{said.partition(chr(10))[0].strip() or 'of unknown kind'}: {mpirun}"


def _output(command: list[str]) -> str:
    """What a program says, or nothing when it is missing, fails, or takes too long."""
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=_ASK_SECONDS, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def _names(group: str) -> list[str]:
    return list(dict.fromkeys(point.name for point in plugins.names(group)))


def _ability(group: str, name: str, seconds: float) -> Ability:
    kind = group.rpartition(".")[2][:-1]
    obstacles = _ask(["plugin", group, name], seconds)
    if not obstacles and name in _ON_GPUS and not _has_gpu():
        obstacles = ["there is no GPU here"]
    return Ability(kind, name, not obstacles, "; ".join(obstacles))


def _has_gpu() -> bool:
    try:
        return bool(placement.look().gpus)
    except PlacementError:
        return False


def _differences(seconds: float) -> list[str]:
    """How the installed TensorRT-LLM differs from the recorded one, or why that could not be found out."""
    return _ask(["tensorrt-llm"], seconds)


def _ask(words: Sequence[str], seconds: float) -> list[str]:
    """A probe's answer; if it gives none, what became of it."""
    with tempfile.TemporaryDirectory() as folder:
        answer, log = Path(folder) / "answer", Path(folder) / "log"
        command = safe_files.python("trt_dp.doctor.probe", str(answer), *words)
        process = Guarded(command, placement.clean(os.environ), (), log)
        if not _wait(process, seconds):
            process.kill()
            _wait(process, _KILLED_SECONDS)
            return [f"it did not load in {seconds:.0f} s"]
        if answer.exists():
            return msgspec.json.decode(answer.read_bytes(), type=list[str])
        last = (log.read_text(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
        return [f"loading it ends the process with status {process.poll()}: {last}"]


def _wait(process: Guarded, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while process.poll() is None:
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_SECONDS)
    return True
