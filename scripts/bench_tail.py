"""Orders against each other on a real model: two workers on the CPU engine, a long tail, rounds in turn."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np
from middling_engine import TRT_DP, middling_engine

ORDERS = ("static halves", "file", "longest", "auto")
CORES = sorted(os.sched_getaffinity(0))[:2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--folder", type=Path, help="Keep the engine here.")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        engine = middling_engine(asked.folder or Path(name))
        outputs = write(Path(name), asked.requests)
        print(f"{asked.requests:,} requests, {outputs.sum():,} output tokens, at most {outputs.max()}; "
              f"2 workers with {asked.batch} sequences")  # fmt: skip
        compare(Path(name), engine, asked)


def compare(folder: Path, engine: Path, asked: argparse.Namespace) -> None:
    options = ["--engine-path", engine, "--set", f"max_sequences={asked.batch}", "--n-gpus", 1]
    seconds: dict[str, list[float]] = {order: [] for order in ORDERS}
    hashes = set()
    for turn in range(asked.rounds):
        for order in ORDERS if turn % 2 else reversed(ORDERS):
            output = folder / f"{order}-{turn}".replace(" ", "-")
            if order == ORDERS[0]:
                found = halves(folder, output, options)
            else:
                words = [*options, "--n-workers", 2, "--order", order, "--output", output]
                finish(start("run", folder / "all.jsonl", *words))
                found = took(output), steps(output)
                hashes.add(report(output)["results_sha256"])
            seconds[order].append(found[0])
            print(
                f"round {turn + 1}, {order:<14} {found[0]:7.2f} s, {found[1]:,} steps", flush=True
            )
    for order in ORDERS[1:]:
        pairs = [a / b for a, b in zip(seconds[ORDERS[0]], seconds[order], strict=True)]
        listed = ", ".join(f"{one:.2f}" for one in pairs)
        print(f"{order:<14} {median(pairs):.2f} x as fast as static halves ({listed})")
    print(f"results: {'all equal' if len(hashes) == 1 else 'DIFFERENT'}")


def halves(folder: Path, output: Path, options: list[object]) -> tuple[float, int]:
    """Every other request for each of two runs of one worker, each on a core of its own; the later one counts."""
    both = []
    for half, core in enumerate(CORES):
        words = [*options, "--n-workers", 1, "--order", "file", "--output", f"{output}-{half}"]
        both.append(start("run", folder / f"half{half}.jsonl", *words, core=core))
    for process in both:
        finish(process)
    outputs = [Path(f"{output}-{half}") for half in range(2)]
    return max(map(took, outputs)), max(map(steps, outputs))


def write(folder: Path, count: int) -> np.ndarray:
    dice = np.random.default_rng(11)
    drawn = dice.lognormal(np.log(60) - 0.5, 1.0, count)
    outputs = np.clip(drawn.round(), 1, 480).astype(int)
    rows = [
        json.dumps({"input_ids": dice.integers(5, 90, 16).tolist(), "output_tokens": output}) + "\n"
        for output in outputs.tolist()
    ]
    (folder / "all.jsonl").write_text("".join(rows))
    for half in range(2):
        (folder / f"half{half}.jsonl").write_text("".join(rows[half::2]))
    return outputs


def report(output: Path) -> dict:
    return json.loads((output / "report.json").read_text())


def took(output: Path) -> float:
    return float(report(output)["performance"]["total_latency_ms"]) / 1e3


def steps(output: Path) -> int:
    """Of the busier worker."""
    return max(worker["facts"]["steps"] for worker in report(output)["workers"])


def start(*words: object, core: int | None = None) -> subprocess.Popen[str]:
    pinned = [] if core is None else ["taskset", "-c", str(core)]
    line = [*pinned, TRT_DP, *map(str, words)]
    return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> None:
    _, said = process.communicate()
    if process.returncode:
        sys.exit(said)


if __name__ == "__main__":
    main()
