"""How long real runs take beside what was predicted: the CPU engine, calibrated with trt-dp calibrate."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from middling_engine import TRT_DP, middling_engine
from msgspec import Struct

from trt_dp.dataset.open import open_dataset
from trt_dp.dataset.reading import ignore
from trt_dp.simulate import calibrate
from trt_dp.simulate.forecast import Calibrated, Likeness, simulated
from trt_dp.simulate.needs import Allowed, needs_of

BATCH = ["--set", "max_sequences=32"]


class Run(Struct, frozen=True):
    """How long a run took or will take, and the steps of all its workers, which noise changes little."""

    seconds: float
    steps: int


class Watch:
    """What others use of the processor from now on, in shares of the whole machine."""

    def __init__(self) -> None:
        self._began, self._machine, self._ours = time.monotonic(), busy(), ours()

    def others(self) -> float:
        """The share since then."""
        passed = (time.monotonic() - self._began) * (os.cpu_count() or 1)
        return max(0.0, busy() - self._machine - (ours() - self._ours)) / passed


def busy() -> float:
    """Seconds of all processors so far, but those that they were idle."""
    parts = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    return (sum(map(int, parts)) - int(parts[3]) - int(parts[4])) / os.sysconf("SC_CLK_TCK")


def ours() -> float:
    """Of this process and of all that it has waited for."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


class Shape(Struct, frozen=True):
    """Requests: how many, the tokens of their prompts, and their answers' mean, spread and longest."""

    name: str
    requests: int
    prompt: int
    mean: int
    sigma: float
    longest: int
    order: str


SHAPES = (
    Shape("equal, short prompts", 400, 16, 64, 0.0, 64, "auto"),
    Shape("equal, long prompts", 250, 200, 24, 0.0, 24, "auto"),
    Shape("nearly equal", 400, 32, 48, 0.2, 128, "auto"),
    Shape("long tail", 500, 16, 48, 1.0, 384, "auto"),
    Shape("long tail, in the order of the file", 500, 16, 48, 1.0, 384, "file"),
    Shape("long tail, longest first, prompts", 300, 100, 32, 1.0, 256, "longest"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=int, default=25, help="For each calibration.")
    parser.add_argument("--scale", type=float, default=1.0, help="Of the numbers of requests.")
    parser.add_argument("--folder", type=Path, help="Keep the engine and the calibrations here.")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as name:
        folder = asked.folder or Path(name)
        engine = middling_engine(folder)
        print(f"{'workers':<8} {'requests':<38} {'real s':>8} {'predicted':>10} {'error':>7}"
              f" {'steps':>7} {'predicted':>10} {'error':>7}  others")  # fmt: skip
        for workers in asked.workers:
            several(Path(name), engine, workers, asked)


def several(folder: Path, engine: Path, workers: int, asked: argparse.Namespace) -> None:
    """Calibrate once, then predict and run every shape."""
    on = ["--engine-path", engine, *BATCH, "--n-workers", workers, "--n-gpus", 1]
    file = (asked.folder or folder) / f"calibration-{workers}.json"
    command("calibrate", *on, "--seconds", asked.seconds, "--output", file)
    found = calibrate.load(file)
    for number, shape in enumerate(SHAPES):
        dataset = folder / f"{number}.jsonl"
        write(dataset, shape, asked.scale)
        said = predict(found, dataset, shape.order, workers)
        watch = Watch()
        real = run(folder / f"run-{workers}-{number}", dataset, [*on, "--order", shape.order])
        print(f"{workers:<8} {shape.name:<38} {real.seconds:8.2f} {said.seconds:10.2f} "
              f"{said.seconds / real.seconds - 1:+7.1%} {real.steps:7,} {said.steps:10,} "
              f"{said.steps / real.steps - 1:+7.1%} {watch.others():6.0%}", flush=True)  # fmt: skip
    print(f"calibration, {workers} workers: {found.model}, prompts alone: {found.reads_alone}, "
          f"median error {found.median_error:.1%}, worst {found.worst_error:.1%}")  # fmt: skip


def write(path: Path, shape: Shape, scale: float) -> None:
    dice = np.random.default_rng(3)
    count = int(shape.requests * scale)
    drawn = dice.lognormal(np.log(shape.mean) - shape.sigma**2 / 2, shape.sigma, count)
    outputs = np.clip(drawn.round(), 1, shape.longest).astype(int)
    with path.open("w") as file:
        for output in outputs.tolist():
            ids = dice.integers(5, 90, shape.prompt).tolist()
            file.write(json.dumps({"input_ids": ids, "output_tokens": output}) + "\n")


def predict(found: calibrate.Calibration, dataset: Path, order: str, workers: int) -> Run:
    engine = Calibrated.of("cpu", found)
    needs = needs_of(open_dataset(dataset, None, ignore), Allowed())
    likeness = Likeness.of(needs, engine)
    said = simulated(likeness, engine, workers, order)
    return Run(said.seconds, sum(each.steps for each in said.spent))


def run(folder: Path, dataset: Path, options: list[object]) -> Run:
    """Seconds from the first request sent to the last answer, and the steps of all workers."""
    command("run", dataset, *options, "--output", folder)
    report = json.loads((folder / "report.json").read_text())
    steps = sum(worker["facts"]["steps"] for worker in report["workers"])
    return Run(report["performance"]["total_latency_ms"] / 1e3, steps)


def command(*words: object) -> None:
    line = [TRT_DP, *map(str, words)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)


if __name__ == "__main__":
    main()
