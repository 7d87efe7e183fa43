"""Runs that show what reports are for, and pictures of their pages.

A long tail in file order and longest first, a run in which a worker is killed, and a sweep of workers. The
requests are answered by the demo model, in real time; nothing in the pictures is made up.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

TRT_DP = [sys.executable, "-m", "trt_dp"]
CHROMIUM = ("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--hide-scrollbars")  # fmt: skip
PICTURES = Path(__file__).parents[1] / "docs/pictures"


def main() -> None:
    """Make the runs, then the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=2400)
    parser.add_argument("--folder", type=Path, help="where to keep the runs; default: nowhere")
    parser.add_argument("--output", type=Path, default=PICTURES)
    asked = parser.parse_args()
    asked.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        work = (asked.folder or Path(name)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        runs = make_runs(work, asked.requests)
        picture(work / runs["killed"] / "report.html", asked.output / "report.png", 1180, 1180)
        page = work / "orders.html"
        subprocess.run(
            [*TRT_DP, "report", *(work / runs[n] for n in ("file", "longest")), "--html", page],
            check=True,
        )
        picture(page, asked.output / "orders.png", 1180, 770)
        page = work / "sweep.html"
        subprocess.run(
            [*TRT_DP, "report", *(work / n for n in runs["sweep"].split()), "--html", page],
            check=True,
        )
        picture(page, asked.output / "sweep.png", 1180, 1250)


def make_runs(work: Path, requests: int) -> dict[str, str]:
    """Every run of the gallery, each in a folder with its name."""
    engine, dataset = work / "engine", work / "long-tail.jsonl"
    if not engine.exists():
        subprocess.run([*TRT_DP, "build", "--output", engine], check=True)
    long_tail(dataset, requests)
    base = ["--engine-path", engine.name, "--request-path", dataset.name, "--no-timing", "--plain"]
    for order in ("file", "longest"):
        run(work / f"{order}-order", [*base, "--n-workers", "2", "--order", order])
    run(work / "one-worker-killed", [*base, "--n-workers", "2"], kill=True)
    for workers in (1, 2):
        run(work / f"workers-{workers}", [*base, "--n-workers", str(workers)])
    return {
        "file": "file-order", "longest": "longest-order", "killed": "one-worker-killed",
        "sweep": "workers-1 workers-2",
    }  # fmt: skip


def long_tail(path: Path, requests: int) -> None:
    """Prompts of 32 tokens; answers of log-normal length, the three longest last."""
    draw = np.random.default_rng(7)
    lengths = np.clip(draw.lognormal(3.6, 0.8, requests), 4, 800).astype(int)
    lengths[-3:] = 1500
    with path.open("w") as file:
        for number, length in enumerate(lengths.tolist()):
            ids = draw.integers(3, 200, 32).tolist()
            file.write(
                json.dumps({"task_id": number, "input_ids": ids, "output_tokens": length}) + "\n"
            )


def run(folder: Path, words: list[object], *, kill: bool = False) -> None:
    """One run; `kill` ends a worker by SIGKILL once a third is answered."""
    shutil.rmtree(folder, ignore_errors=True)
    line = [*TRT_DP, "run", *map(str, words), "--output", folder.name]
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, cwd=folder.parent)
    if kill:
        kill_a_worker(folder, process)
    if process.wait() != 0:
        sys.exit(f"the run in {folder} failed")


def kill_a_worker(folder: Path, process: subprocess.Popen[bytes]) -> None:
    """End a worker once a third of the requests is completed."""
    while process.poll() is None:
        time.sleep(0.2)
        status = folder / "status.json"
        found = (
            json.loads(status.read_text()) if status.exists() else {"completed": 0, "requests": 1}
        )
        if found["completed"] * 3 > found["requests"]:
            os.kill(worker_pid(process.pid), signal.SIGKILL)
            return


def worker_pid(parent: int) -> int:
    """The process of a worker of this run."""
    import psutil

    below = psutil.Process(parent).children(recursive=True)
    return next(child.pid for child in reversed(below) if "trt_dp.worker" in child.cmdline())


def picture(page: Path, output: Path, width: int, height: int) -> None:
    """A screenshot of the top of a page."""
    with tempfile.TemporaryDirectory() as profile:
        flags = [
            f"--user-data-dir={profile}",
            f"--window-size={width},{height}",
            f"--screenshot={output}",
        ]
        subprocess.run(
            [*CHROMIUM, *flags, page.resolve().as_uri()], check=True, capture_output=True
        )
    print(f"{output}: {output.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
