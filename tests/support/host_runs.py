"""Runs over hosts that are namespaces of this machine: what their tests ask of them."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from hosts import Host

COMMAND = [sys.executable, "-m", "trt_dp"]
MARKS = ("trt_dp", "guard.py")
REQUESTS = 3000
SLOW = ("--set", "step_seconds=0.02", "--set", "batch=8")


def sha(folder: Path) -> str:
    """Of the results in a run folder."""
    return hashlib.sha256((folder / "results.jsonl").read_bytes()).hexdigest()


def finish(process: subprocess.Popen[str], status: int = 0) -> str:
    """Wait for the end of a run; gives what it said."""
    _, said = process.communicate(timeout=300)
    assert process.returncode == status, said
    return said


def answering(folder: Path, workers: int = 4) -> bool:
    """Whether answers have come from so many workers: by default from all of two hosts."""
    status = folder / "run" / "status.json"
    if not status.exists():
        return False
    lanes = json.loads(status.read_text())["lanes"]
    return sum(lane["requests"] > 0 for lane in lanes) >= workers


def report(folder: Path) -> dict[str, object]:
    """That of the run below this folder."""
    return json.loads((folder / "run" / "report.json").read_text())


def clean(hosts: Sequence[Host], marks: Sequence[str] = MARKS) -> bool:
    """Whether no process of a run is on any of these hosts."""
    return not any(host.processes(*marks) for host in hosts)


def key_of_the_run(host: Host) -> bytes:
    """The key in hexadecimal, as a worker there has it in its environment."""
    (worker, *_) = host.processes("trt_dp.worker")
    variables = Path(f"/proc/{worker}/environ").read_bytes().split(b"\0")
    (key,) = [one.partition(b"=")[2] for one in variables if one.startswith(b"TRT_DP_KEY=")]
    assert len(key) == 64
    return key
