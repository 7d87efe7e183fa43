"""Real Open MPI under the double of TensorRT-LLM: which are here, and the double with a compiled executorWorker.

Open MPI 5 comes with the development tools, from the package index. Open MPI 4.1 is Debian's or Ubuntu's, installed, or
unpacked by scripts/mpi-check into the folder that TRT_DP_OPEN_MPI_4 names. `user` is a user other than root: in a
namespace of its own where root runs the tests, so that it may read what root may read.
"""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

from trtllm_engines import DOUBLES, environment

PREFIX = Path(sys.executable).parent.parent
AS_USER = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]


def open_mpi(major: int) -> dict[str, str] | None:
    """The environment in which a process finds this Open MPI and no other; None where it is not here."""
    return _of_package_index() if major == 5 else _unpacked() or _installed(major)


def _of_package_index() -> dict[str, str] | None:
    """With all of it set as a module system or a container would: it finds itself only when started by its mpirun."""
    if not (PREFIX / "bin" / "prte").exists():
        return None
    names = ("OPAL_PREFIX", "PMIX_PREFIX", "PRTE_PREFIX")
    return {**dict.fromkeys(names, str(PREFIX)), "PATH": _path(PREFIX / "bin")}


def _unpacked() -> dict[str, str] | None:
    given = os.environ.get("TRT_DP_OPEN_MPI_4")
    if not given:
        return None
    libraries = next(Path(given, "usr", "lib").glob("*-linux-gnu"))
    paths = (libraries, libraries / "pmix2" / "lib", libraries / "openmpi" / "lib")
    return {
        "OPAL_PREFIX": f"{given}/usr",
        "OPAL_LIBDIR": f"{libraries}/openmpi/lib",
        "OPAL_PKGLIBDIR": f"{libraries}/openmpi/lib/openmpi3",
        "LD_LIBRARY_PATH": os.pathsep.join(map(str, paths)),
        "OMPI_MCA_mca_base_component_show_load_errors": "0",
        "PATH": _path(Path(given, "usr", "bin")),
    }


def _installed(major: int) -> dict[str, str] | None:
    mpirun = shutil.which("mpirun", path="/usr/bin:/usr/local/bin")
    if mpirun is None:
        return None
    said = subprocess.run([mpirun, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"\(Open MPI\) (\d+)", said)
    folders = list(Path("/usr/lib").glob("*-linux-gnu"))
    if not found or int(found[1]) != major or not folders:
        return None
    return {"LD_LIBRARY_PATH": str(folders[0]), "PATH": _path(Path(mpirun).parent)}


def _path(first: Path) -> str:
    return os.pathsep.join((str(first), os.environ["PATH"]))


def can_be_user() -> bool:
    """Whether a process can be started here that is not root."""
    if os.geteuid() != 0:
        return True
    try:
        return subprocess.run([*AS_USER, "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def as_user() -> list[str]:
    """What to put before a command, so that it is not run as root."""
    return AS_USER if os.geteuid() == 0 else []


def install_double(folder: Path) -> Path:
    """The double as an installed package, in a folder for PYTHONPATH."""
    site = folder / "site"
    installer = str(DOUBLES.parent / "install.py")
    runpy.run_path(installer)["install_run"](site)
    return site


def environment_of(mpi: dict[str, str], site: Path, **more: str) -> dict[str, str]:
    """That of a run whose workers find the double, on this Open MPI."""
    return {**environment(gpus=4), "PYTHONPATH": str(site), "TRTLLM_DOUBLE_MPI": "1", **mpi, **more}
