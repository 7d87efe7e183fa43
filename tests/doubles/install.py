"""Installs the doubles of TensorRT-LLM as one package into a folder of Python's: `python install.py SITE-PACKAGES BIN`.

For a machine that is to look like NVIDIA's container: TensorRT-LLM 1.2.1 that builds and runs, a trtllm-build and a
nvidia-smi on PATH, real MPI under it, and an executorWorker that is compiled here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PREFIX = Path(sys.prefix)  # with the headers and the library of Open MPI, from the package index
_LIBRARY = "int tensorrt_llm_stand_in(void) { return 0; }\n"
_METADATA = "Metadata-Version: 2.1\nName: tensorrt_llm\nVersion: 1.2.1\n"
_NO_CACHE = shutil.ignore_patterns("__pycache__")


def main(site: Path, programs: Path) -> None:
    """Install all of it."""
    install_run(site)
    package = site / "tensorrt_llm"
    shutil.copytree(HERE / "build" / "tensorrt_llm", package, ignore=_ignored, dirs_exist_ok=True)
    (package / "real_mpi").touch()  # which _mpi.py looks for
    info = site / "tensorrt_llm-1.2.1.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(_METADATA)
    start = "#!/usr/bin/env python3\nimport runpy\n"
    build = package / "trtllm_build.py"
    shutil.copy(HERE / "build" / "trtllm_build.py", build)
    shutil.copy(HERE.parent / "data" / "trtllm_cli.json", package / "trtllm_cli.json")
    _executable(
        programs / "trtllm-build",
        f"{start}runpy.run_path({_inside(build)!r}, run_name='__main__')\n",
    )
    _executable(programs / "nvidia-smi", (HERE / "bin" / "nvidia-smi").read_text())


def install_run(site: Path) -> None:
    """The double that runs engines, with a compiled executorWorker and its library in tensorrt_llm/libs."""
    shutil.copytree(HERE / "run", site, ignore=_NO_CACHE, dirs_exist_ok=True)
    package = site / "tensorrt_llm"
    record = HERE.parent / "data" / "trtllm_signatures.json"
    shutil.copy(record, package / record.name)
    (package / "libs").mkdir(exist_ok=True)
    source = site / "stand_in.c"
    source.write_text(_LIBRARY)
    _run("cc", "-shared", "-fPIC", "-o", package / "libs" / "libtensorrt_llm.so", source)
    worker = package / "bin" / "executorWorker"
    worker.unlink()
    source = HERE / "mpi" / "executor_worker.c"
    libraries = (f"-L{package / 'libs'}", "-ltensorrt_llm", f"-L{PREFIX / 'lib'}", "-lmpi")
    _run("cc", f"-I{PREFIX / 'include'}", "-o", worker, source, *libraries)


def _inside(path: Path) -> str:
    """A path as it is seen from within a file system that lies under ROOT here."""
    root = os.environ.get("LAYER", "") + "/root"
    return str(path).removeprefix(root) if len(root) > len("/root") else str(path)


def _ignored(folder: str, names: list[str]) -> list[str]:
    """The build double's own __init__ only says what it is."""
    own = ["__init__.py"] if Path(folder) == HERE / "build" / "tensorrt_llm" else []
    return [*own, *_NO_CACHE(folder, names)]


def _executable(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def _run(*words: object) -> None:
    subprocess.run([str(word) for word in words], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
