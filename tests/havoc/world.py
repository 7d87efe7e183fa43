"""What a run stands on and leaves behind: its dataset, its folder, its processes, the files it may not leave."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from havoc.plan import Plan
from trt_dp.demo import write_demo
from trt_dp.launchers.mpi import launcher as mpi

TRT_DP = [sys.executable, "-m", "trt_dp"]
SITE = Path(__file__).with_name("site")
MARK = "HAVOC_RUN"
VOCABULARY = 250
SHARED_MEMORY = "/dev/shm"
_NEW_MOUNTS = 0x00020000  # CLONE_NEWNS
_ALONE = False
_KEPT = {
    *(".lock", "run.json", "journal", "logs", "results.jsonl", "report.json"),
    *("report.html", "events.jsonl", "status.json", "index.npz", "requests.store"),
}


def write_dataset(path: Path, requests: int, form: str = "ids") -> list[bytes]:
    """Requests that are all different, the same first ones for any number of them; returns them as lines."""
    chance = random.Random(2048)
    rows: list[dict[str, Any]] = []
    for number in range(requests):
        ids = [chance.randrange(3, VOCABULARY) for _ in range(chance.randint(8, 24))]
        rows.append({"task_id": number, "input_ids": ids, "output_tokens": chance.randint(2, 9)})
    if form == "text":
        for row in rows:
            row["prompt"] = " ".join(map(chr, row.pop("input_ids")))
    lines = [json.dumps(row).encode() + b"\n" for row in rows]
    if form == "parquet":
        _write_parquet(path, rows)
    else:
        path.write_bytes(b"".join(lines))
    return lines


def _write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows), path)


def file_name(form: str) -> str:
    """What a dataset of this form is called."""
    return "requests.parquet" if form == "parquet" else "requests.jsonl"


def tokenizer(folder: Path) -> Path:
    """A folder with the demo model's tokenizer, for an engine that has none."""
    place = folder / "tokenizer"
    if not place.exists():
        place.mkdir()
        write_demo(place)
    return place


def clean_results(folder: Path, inner: str, requests: int, form: str = "ids") -> list[bytes]:
    """The lines that a run gives to which nothing is done."""
    dataset = folder / file_name(form)
    write_dataset(dataset, requests, form)
    words = [*TRT_DP, "run", "--engine", inner, "--no-timing", "--n-workers", "1"]
    words += ["--request-path", str(dataset), "--output-dir", str(folder / "run")]
    if inner == "cpu":
        words += ["--engine-path", str(demo(folder)), "--set", "max_sequences=16"]
    elif form == "text":
        words += ["--engine-path", str(tokenizer(folder))]
    subprocess.run(words, check=True, capture_output=True)
    return (folder / "run" / "results.jsonl").read_bytes().splitlines(keepends=True)


def demo(folder: Path) -> Path:
    """The demo model, as `trt-dp build` makes it."""
    engine = folder / "demo"
    if not engine.exists():
        words = [*TRT_DP, "build", "--engine", "cpu", "--output", str(engine)]
        subprocess.run(words, check=True, capture_output=True)
    return engine


def has_mpi() -> bool:
    """Whether runs can be started with MPI here."""
    return mpi.find_mpirun() is not None and importlib.util.find_spec("mpi4py") is not None


def alone(*, jobs: int = 1) -> bool:
    """Give this process mounts and shared memory of its own, if it may have them; called before any thread starts.

    With several runs at a time, what lies in shared memory may be another run's, and is not judged.
    """
    global _ALONE  # noqa: PLW0603 - it is the process that has changed
    if os.geteuid() == 0 and ctypes.CDLL(None).unshare(_NEW_MOUNTS) == 0:
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        subprocess.run(["mount", "-t", "tmpfs", "none", SHARED_MEMORY], check=True)
        _ALONE = jobs == 1
        return True
    return False


class World:
    """The folders of one run under test, and the environment that marks all its processes."""

    def __init__(self, folder: Path, plan: Plan, engine: Path | None) -> None:
        self.folder, self.plan, self.engine = folder, plan, engine
        self.run, self.marks, self.temporary = folder / "run", folder / "marks", folder / "tmp"
        for each in (self.run, self.marks, self.temporary):
            each.mkdir(parents=True)
        self.dataset = folder / file_name(plan.form)
        self.lines = write_dataset(self.dataset, plan.requests, plan.form)
        self._content, self._written = self.dataset.read_bytes(), self.dataset.stat()
        self.journal, self.results = self.run / "journal", self.run / "results.jsonl"
        self._mounted = False
        self._shared = set(_shared_memory())
        self.launcher = plan.launcher if has_mpi() else "local"

    @property
    def command(self) -> list[str]:
        """What a user would type, and types again."""
        plan = self.plan
        words = [*TRT_DP, "run", "--engine", "havoc", "--no-timing", "--set", f"marks={self.marks}"]
        words += ["--request-path", str(self.dataset), "--output-dir", str(self.run)]
        words += ["--n-workers", str(plan.workers), "--stall-seconds", str(plan.stall_seconds)]
        words += ["--max-restarts", str(plan.max_restarts), "--load-seconds", "10"]
        words += ["--grace-seconds", "3", "--answer-seconds", str(2 * plan.stall_seconds)]
        words += ["--launcher", self.launcher]
        if plan.absent:
            words += ["--start-seconds", str(plan.start_seconds)]
        settings = dict(plan.settings)
        for name in ("once", "poison"):
            misdeeds = getattr(plan, name)
            settings[name] = ",".join(f"{each.kind}:{each.index}" for each in misdeeds)
        if self.engine:
            words += ["--engine-path", str(self.engine)]
        return words + [f"--set={key}={value}" for key, value in settings.items()]

    def environment(self, limits: str) -> dict[str, str]:
        """Where the engine is found, what marks the processes, and what they are put under."""
        more = {"HAVOC_CLOCK": str(self.plan.seed)} if self.plan.clock else {}
        more |= {"HAVOC_LIMITS": limits} if limits else {}
        if self.plan.absent:
            absent = ",".join(map(str, self.plan.absent))
            more |= {"HAVOC_ABSENT": absent, "HAVOC_MARKS": str(self.marks)}
        return {
            **os.environ,
            **more,
            "PYTHONPATH": str(SITE),
            "TMPDIR": str(self.temporary),
            MARK: str(self.folder),
        }

    def mount(self, options: str) -> bool:
        """Put the run folder on a disk of its own, or change that one; False where that may not be done."""
        what = f"remount,{options}" if self._mounted else options
        words = ["mount", "-t", "tmpfs", "-o", what, "none", str(self.run)]
        done = subprocess.run(words, capture_output=True, check=False).returncode == 0
        self._mounted = self._mounted or done
        return done

    def restore_dataset(self) -> None:
        """As it was, date and all."""
        self.dataset.write_bytes(self._content)
        os.utime(self.dataset, ns=(self._written.st_atime_ns, self._written.st_mtime_ns))

    def leftovers(self) -> list[str]:
        """What is there and should not be."""
        found = {path.name for path in self.run.iterdir()} - _KEPT - {"failures.jsonl"}
        found |= {path.name for path in self.temporary.iterdir()}
        name = self.dataset.name
        beside = {"run", "marks", "tmp", name, f".{name}.index.npz"}
        found |= {path.name for path in self.folder.iterdir()} - beside
        mine = set(_shared_memory()) - self._shared
        return sorted(found | mine)

    def processes(self) -> list[int]:
        """The processes of this run that live, whoever their parent is now."""
        wanted = f"{MARK}={self.folder}".encode()
        return [pid for pid in map(int, filter(str.isdigit, _names("/proc"))) if _has(pid, wanted)]

    def end_processes(self) -> None:
        """End them, each by its number."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        """Leave nothing."""
        self.end_processes()
        if self._mounted:
            subprocess.run(["umount", "-l", str(self.run)], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


def wait_for_none(world: World, seconds: float) -> list[int]:
    """The processes that are left after so long."""
    deadline = time.monotonic() + seconds
    while (left := world.processes()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def _has(pid: int, wanted: bytes) -> bool:
    try:
        if Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2][:1] == b"Z":
            return False
        return wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def _shared_memory() -> list[str]:
    """What lies there, where it is ours alone; elsewhere others come and go."""
    return _names(SHARED_MEMORY) if _ALONE else []


def _names(folder: str) -> list[str]:
    return [path.name for path in Path(folder).iterdir()]
