"""Memory over a long run: resident megabytes of the coordinator and of each worker, as the requests go by."""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray

from trt_dp.coordinator.order.runs import Runs
from trt_dp.coordinator.record.journal import Journal
from trt_dp.coordinator.record.tally import Tally
from trt_dp.dataset.line_table import Gathered as LinesFound
from trt_dp.dataset.piece import LINE
from trt_dp.report.summary import percentiles
from trt_dp.types import RECORD, Records

SLICE_ROWS, ANSWERS, LINE_BYTES = 300_000, 4096, 190
TRT_DP = str(Path(sys.executable).with_name("trt-dp"))
SHORT = ["--input-mean", "16", "--input-stdev", "4", "--output-mean", "8", "--output-stdev", "2"]


def main() -> None:
    """Make a dataset of short requests, run it on echo with two workers, and look every few seconds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=2_000_000)
    parser.add_argument("--seconds", type=float, default=5.0, help="between two looks")
    parser.add_argument(
        "--tables", action="store_true", help="only what the coordinator keeps, without a run"
    )
    asked = parser.parse_args()
    if asked.tables:
        tables(asked.requests)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "few")
        few = peak(start(folder, 1000), folder)
        folder = Path(name, "many")
        process = start(folder, asked.requests)
        watch(process, folder / "journal", asked.seconds)
        many = peak(process, folder)
    each = (many - few) / asked.requests
    print(f"coordinator's peak: {many / 1e6:,.0f} MB, {each:.1f} bytes for each request")


def tables(requests: int) -> None:
    """What is kept of each request, filled as a run fills it, and then asked for percentiles."""
    with tempfile.TemporaryDirectory() as name:
        index = LinesFound()
        for first in range(0, requests, SLICE_ROWS):
            index.add(lines(first, min(SLICE_ROWS, requests - first)))
        table, journal = index.table(), Journal(Path(name, "journal"), requests)
        print(f"index: {own():.0f} MB")
        pending = Runs(~journal.completed)
        tally = Tally(requests, 2, table["input_tokens"], table["output_tokens"], Path(name))
        for first in range(0, requests, ANSWERS):
            indices = pending[first : first + ANSWERS]
            tally.sent(0, indices, 0.0)
            records = answers(indices)
            journal.append(records, LINE_BYTES * len(records) * b"x")
            tally.came(0, records, 0.0)
        print(f"all answered: {own():.0f} MB")
        found = percentiles(tally.counts().latency)
        print(f"{found.count:,} latencies: {own():.0f} MB")
        journal.close()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(f"peak: {most:,.0f} MB")


def lines(first: int, count: int) -> NDArray[np.void]:
    """Short requests, as a reader finds them."""
    dice, found = np.random.default_rng(first), np.zeros(count, LINE)
    found["length"], found["kind"] = dice.integers(80, 140, count), 1
    found["offset"] = first * 110 + np.cumsum(found["length"]) - found["length"]
    found["input_tokens"], found["output_tokens"] = (dice.integers(2, 30, count) for _ in range(2))
    return found


def answers(indices: NDArray[np.int64]) -> Records:
    """Answers to these, of a usual length."""
    records = np.zeros(len(indices), RECORD)
    records["index"], records["length"], records["timing_length"] = indices, LINE_BYTES, 90
    records["total_seconds"] = np.random.default_rng(1).random(len(indices))
    return records


def own() -> float:
    """Megabytes of this process."""
    return float(psutil.Process().memory_info().rss / 1e6)


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
