"""Memory over a long run: resident megabytes of the coordinator and of each worker, as the requests go by."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

TRT_DP = str(Path(sys.executable).with_name("trt-dp"))
SHORT = ["--input-mean", "16", "--input-stdev", "4", "--output-mean", "8", "--output-stdev", "2"]


def main() -> None:
    """Make a dataset of short requests, run it on echo with two workers, and look every few seconds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=2_000_000)
    parser.add_argument("--seconds", type=float, default=5.0, help="between two looks")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "few")
        few = peak(start(folder, 1000), folder)
        folder = Path(name, "many")
        process = start(folder, asked.requests)
        watch(process, folder / "journal", asked.seconds)
        many = peak(process, folder)
    each = (many - few) / asked.requests
    print(f"coordinator's peak: {many / 1e6:,.0f} MB, {each:.1f} bytes for each request")


def start(folder: Path, requests: int) -> subprocess.Popen[bytes]:
    """A run over new requests, with its folder here."""
    dataset = folder.with_suffix(".jsonl")
    words = ["--num-requests", str(requests), *SHORT, "--output", str(dataset)]
    subprocess.run([TRT_DP, "prepare-dataset", *words], check=True, capture_output=True)
    words = ["--engine", "echo", "--request-path", str(dataset), "--output", str(folder)]
    return subprocess.Popen(
        [TRT_DP, "run", *words, "--n-workers", "2"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def peak(process: subprocess.Popen[bytes], folder: Path) -> float:
    """Bytes that the coordinator had at most, as its report says."""
    process.wait()
    report = json.loads((folder / "report.json").read_text())
    return float(report["coordinator"]["peak_rss_bytes"])


def watch(process: subprocess.Popen[bytes], journal: Path, seconds: float) -> None:
    """A line for each look; ends with the run."""
    print("seconds  journal MB  coordinator MB  workers MB")
    started = time.monotonic()
    while process.poll() is None:
        written = journal.stat().st_size / 1e6 if journal.exists() else 0.0
        coordinator, workers = resident(process.pid)
        each = " ".join(f"{size:5.0f}" for size in workers)
        print(f"{time.monotonic() - started:7.0f}  {written:10.0f}  {coordinator:14.0f}  {each}")
        time.sleep(seconds)
    print(f"exit status {process.returncode}")


def resident(pid: int) -> tuple[float, list[float]]:
    """Megabytes of this process, and of the workers below it."""
    try:
        whole = psutil.Process(pid)
        below = [p for p in whole.children(recursive=True) if "trt_dp.worker" in p.cmdline()]
        return whole.memory_info().rss / 1e6, [p.memory_info().rss / 1e6 for p in below]
    except psutil.Error:
        return 0.0, []


if __name__ == "__main__":
    main()
