"""What Open MPI 4 and 5 must find in a worker's environment, and which MPI a process has loaded.

MPICH needs none of this and ignores it. A user's own setting is never overridden.
"""

from __future__ import annotations

import ctypes
import os
import re
import secrets
import tempfile
from pathlib import Path

SCRATCH = "TRT_DP_SCRATCH"
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - where Open MPI has its files anyway
_LIBRARY = "libmpi.so.40"  # of Open MPI 4 and 5
_VERSION_BYTES = 4096
_OVERSUBSCRIBE = {  # a lone process counts as one slot, and its ranks then find "all nodes filled"
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}
_AS_ROOT = (  # who runs trt-dp as root has decided so: a rank does nothing that a worker would not
    "OMPI_ALLOW_RUN_AS_ROOT",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM",
    "PRTE_ALLOW_RUN_AS_ROOT",
    "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM",
)
_OWN_FILES = (  # Open MPI leaves them behind when its daemon is killed
    "OMPI_MCA_orte_tmpdir_base",
    "PRTE_MCA_prte_tmpdir_base",
    "OMPI_MCA_btl_vader_backing_directory",
    "OMPI_MCA_btl_sm_backing_directory",
)


def settings(scratch: str) -> dict[str, str]:
    """What lets processes start further ones, as root too, with all of Open MPI's files in `scratch`, if given."""
    root = dict.fromkeys(_AS_ROOT, "1") if os.geteuid() == 0 else {}
    own = dict.fromkeys(_OWN_FILES, scratch) if scratch else {}
    return {**_OVERSUBSCRIBE, **root, **own}


def scratch_path() -> str:
    """A path for a worker's scratch folder, in shared memory if there is any; nothing is made yet."""
    base = _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK) else tempfile.gettempdir()
    return str(Path(base) / f"trt-dp-{secrets.token_hex(8)}")


def prepare_this_process() -> None:
    """Set all of it in this process, before it loads MPI; the folder that its launcher named for it is made."""
    scratch = os.environ.get(SCRATCH, "")
    if scratch:
        Path(scratch).mkdir(mode=0o700, exist_ok=True)
    for name, value in settings(scratch).items():
        os.environ.setdefault(name, value)


def loaded_version() -> tuple[int, str]:
    """The major and the full version of the Open MPI that this process has loaded; (0, "") for another or none."""
    try:
        library = ctypes.CDLL(_LIBRARY, mode=os.RTLD_NOLOAD | os.RTLD_NOW)
        text, length = ctypes.create_string_buffer(_VERSION_BYTES), ctypes.c_int()
        library.MPI_Get_library_version(text, ctypes.byref(length))
    except (OSError, AttributeError):
        return 0, ""
    return parse_version(text.value.decode(errors="replace"))


def parse_version(text: str) -> tuple[int, str]:
    """The major and the full version of Open MPI that a text such as `Open MPI v5.0.11, package: ...` names."""
    found = re.search(r"Open MPI\W+v?((\d+)\.[\w.]+)", text)
    return (int(found[2]), found[1]) if found else (0, "")
