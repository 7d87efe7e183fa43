"""The same runs in real time and in virtual time: real workers whose engines sleep, and the simulator."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from msgspec import Struct

from trt_dp.simulate.bounds import bound
from trt_dp.simulate.engine import EngineShape
from trt_dp.simulate.forecast import with_exact_lengths
from trt_dp.simulate.shapes import Workload, whole, workload
from trt_dp.simulate.step_models import Linear
from trt_dp.simulate.world import Setting

TRT_DP = str(Path(sys.executable).with_name("trt-dp"))
STEP_MS, SEQUENCE_US, SLOTS, AHEAD = 20.0, 500.0, 16, 4
ENGINE = EngineShape(model=Linear(STEP_MS / 1e3, SEQUENCE_US / 1e6), slots=SLOTS, lookahead=AHEAD)


class Real(Struct, frozen=True):
    """A real run: from the first request sent to the last answer, and when each worker was ready."""

    seconds: float
    ready_at: tuple[float, ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--requests", type=int, default=1500)
    parser.add_argument("--orders", nargs="+", default=["file", "longest", "auto"])
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, work = Path(name), _workload(asked.requests)
        _write(folder / "requests.jsonl", work)
        print(f"{asked.workers} workers, {asked.requests:,} requests, {int(work.outputs.sum()):,} tokens, "
              f"at most {int(work.outputs.max())}; steps of {STEP_MS:g} ms + {SEQUENCE_US:g} us x batch, "
              f"{SLOTS} slots")  # fmt: skip
        print("order      real s   virtual s   real %   virtual %   difference in points")
        for order in asked.orders:
            _compare(folder, work, order, asked.workers)


def _compare(folder: Path, work: Workload, order: str, workers: int) -> None:
    real = _run(folder, order, workers)
    setting = Setting(shapes=(ENGINE,) * workers, ready_at=real.ready_at)
    virtual = with_exact_lengths(work, setting, order).seconds
    least = bound(work, setting.shapes)
    ours, theirs = 100 * least / real.seconds, 100 * least / virtual
    print(f"{order:<8} {real.seconds:8.2f} {virtual:11.2f} {ours:8.1f} {theirs:11.1f} "
          f"{ours - theirs:+14.2f}", flush=True)  # fmt: skip


def _workload(count: int) -> Workload:
    """A long tail: log-normal with sigma 1, mean about 60, at most 512."""
    drawn = np.random.default_rng(5).lognormal(np.log(60) - 0.5, 1.0, count)
    return workload(whole(drawn, 512), prompt=4)


def _write(path: Path, work: Workload) -> None:
    rows = ({"input_ids": [1, 2, 3, 4], "output_tokens": n} for n in work.outputs.tolist())
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def _run(folder: Path, order: str, workers: int) -> Real:
    """Real worker processes, by the command that users type."""
    command = [TRT_DP, "run", folder / "requests.jsonl", "--engine", "sleeper", "--order", order]
    command += ["--n-workers", workers, "--output", folder / order]
    settings = {"slots": SLOTS, "ahead": AHEAD, "step_ms": STEP_MS, "sequence_us": SEQUENCE_US}
    for name, value in settings.items():
        command += ["--set", f"{name}={value}"]
    words = list(map(str, command))
    done = subprocess.run(
        words, env=_environment(folder), capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stderr)
    report = json.loads((folder / order / "report.json").read_text())
    return Real(report["performance"]["total_latency_ms"] / 1e3, _ready_at(report))


def _ready_at(report: dict) -> tuple[float, ...]:
    """When each worker was ready, counted from the first that was."""
    lanes = report["timeline"]["lanes"]
    ready = [next(s["start"] for s in lane["states"] if s["state"] == "ready") for lane in lanes]
    return tuple(moment - min(ready) for moment in ready)


def _environment(folder: Path) -> dict[str, str]:
    """Where the engine is installed as a package's would be."""
    info = folder / "installed" / "sleeper-1.0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sleeper\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[trt_dp.engines]\nsleeper = step_sleeper:StepSleeper\n")
    paths = [str(Path(__file__).parent), str(info.parent), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


if __name__ == "__main__":
    main()
