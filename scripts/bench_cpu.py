"""What trt-dp costs around a real model: the embedded CPU engine through trt-dp against the same pipeline bare.

Both sides alternate, start-up is left out of both (and given by itself), and a figure is the median of
the pairs' ratios. The bare side is a process pinned to its cores that holds its requests in memory and does
nothing but step the pipeline; two of them share a dataset by every other request, which nobody could do
better without knowing the lengths.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TRT_DP = str(Path(sys.executable).with_name("trt-dp"))
EVEN = ["--input-mean", "512", "--input-stdev", "0", "--output-mean", "128", "--output-stdev", "0"]
TAIL = ["--input-median", "256", "--input-sigma", "0.8", "--input-cap", "2048"]
TAIL += ["--output-median", "64", "--output-sigma", "1.4", "--output-cap", "1024"]
WINDOW = (
    128  # requests that the bare loop keeps in the pipeline: as many as the engine decodes at once
)


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=1500)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--model", help="a checkpoint; default: the demo model")
    parser.add_argument("--only", choices=["one", "two", "tail", "start", "transformers"])
    parser.add_argument("--bare", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.bare:
        bare_process(*asked.bare)
        return
    with tempfile.TemporaryDirectory() as name:
        measure(Path(name), asked)


def measure(folder: Path, asked: argparse.Namespace) -> None:
    """Every figure that was asked for."""
    print(machine())
    model = [asked.model] if asked.model else []
    trt_dp("build", *model, "--engine", "cpu", "--output", folder / "engine")
    even, tail = folder / "even.jsonl", folder / "tail.jsonl"
    count = ["--num-requests", str(asked.requests)]
    trt_dp("prepare-dataset", "token-norm-dist", *count, *EVEN, "--output", even)
    trt_dp("prepare-dataset", "token-lognormal", *count, *TAIL, "--output", tail)
    chosen = {
        "one": lambda: compare("1 worker, 1 core, even lengths", folder, even, 1, asked.pairs),
        "two": lambda: compare(
            "2 workers, 1 core each, even lengths", folder, even, 2, asked.pairs
        ),
        "tail": lambda: compare("2 workers, long-tailed lengths", folder, tail, 2, asked.pairs),
        "start": lambda: start_up(folder, even, max(5, asked.pairs)),
        "transformers": lambda: against_transformers(folder, even, asked),
    }
    for name, figure in chosen.items():
        if asked.only in (None, name):
            figure()


def compare(title: str, folder: Path, dataset: Path, workers: int, pairs: int) -> None:
    """Output tokens per second through trt-dp and bare, in pairs."""
    tokens = sum(json.loads(line)["output_tokens"] for line in dataset.open())
    ours, bare = [], []
    for number in range(pairs):
        sides: list[Callable[[], None]] = [
            lambda: ours.append(tokens / through_trt_dp(folder, dataset, workers)),
            lambda: bare.append(tokens / bare_seconds(folder, dataset, workers)),
        ]
        for side in sides if number % 2 else reversed(sides):
            side()
    ratios = sorted(a / b for a, b in zip(ours, bare, strict=True))
    print(f"\n{title}, {lines(dataset):,} requests, {tokens:,} output tokens, {pairs} pairs:")
    print(f"  trt-dp   {statistics.median(ours):10,.0f} output tok/s")
    print(f"  bare     {statistics.median(bare):10,.0f} output tok/s")
    print(f"  ratio    {statistics.median(ratios):10.1%}   ({ratios[0]:.1%} to {ratios[-1]:.1%})")


def through_trt_dp(folder: Path, dataset: Path, workers: int) -> float:
    """Seconds from the first request sent to the last answer."""
    report = run(folder, dataset, workers)
    return float(report["performance"]["total_latency_ms"]) / 1e3


def run(folder: Path, dataset: Path, workers: int) -> dict[str, Any]:
    """A run of one core for each worker; its report."""
    output = folder / "run"
    trt_dp(
        *("run", "--engine-path", folder / "engine", "--request-path", dataset, "--fresh"),
        *("--n-workers", workers, "--n-gpus", 1, "--output", output),
    )
    found: dict[str, Any] = json.loads((output / "report.json").read_text())
    return found


def bare_seconds(folder: Path, dataset: Path, processes: int) -> float:
    """Seconds that the slowest of the bare processes takes, from a common start."""
    started = []
    for part in range(processes):
        line = [
            sys.executable,
            __file__,
            "--bare",
            folder / "engine",
            dataset,
            f"{part}/{processes}",
        ]
        started.append(
            subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
    for process in started:
        process.stdout.readline()  # loaded
    for process in started:
        process.stdin.write("go\n")
        process.stdin.flush()
    return max(float(process.communicate()[0]) for process in started)


def bare_process(engine_path: str, dataset: str, part: str) -> None:
    """Load, wait for the start, answer every n-th request, and print the seconds that took."""
    number, of = map(int, part.split("/"))
    core = sorted(os.sched_getaffinity(0))[number]
    os.sched_setaffinity(0, {core})
    import numpy as np
    import openvino

    from trt_dp.engines.cpu.engine import CpuEngine
    from trt_dp.engines.cpu.pipeline import _generation
    from trt_dp.types import EngineSpec, Placement, Request, Sampling

    engine = CpuEngine(EngineSpec("cpu", engine_path), Placement(0, cores=(core,)))
    pipeline, settings = engine._decoder._pipeline, engine._settings
    found = [json.loads(line) for line in Path(dataset).read_text().splitlines()[number::of]]
    requests = [
        Request(
            index=i,
            task_id=i,
            input_ids=np.array(each["input_ids"]),
            output_tokens=each["output_tokens"],
            sampling=Sampling(ignore_eos=True),
        )
        for i, each in enumerate(found)
    ]
    print("loaded", flush=True)
    sys.stdin.readline()
    started = time.perf_counter()
    handles, waiting = [], iter(requests)
    while True:
        busy = pipeline.get_metrics().requests if pipeline.has_non_finished_requests() else 0
        for request in itertools.islice(waiting, WINDOW - busy):
            ids = openvino.Tensor(request.input_ids[np.newaxis])
            config = _generation(request, settings)
            handles.append(pipeline.add_request(request.index, ids, config))
        if not pipeline.has_non_finished_requests():
            break
        pipeline.step()
    seconds = time.perf_counter() - started
    tokens = [sum(len(part.generated_ids) for part in handle.read_all()) for handle in handles]
    assert tokens == [request.output_tokens for request in requests]
    print(seconds)


def start_up(folder: Path, dataset: Path, repeats: int) -> None:
    """Seconds from the command to the first request sent, two workers, index warm."""
    few = folder / "few.jsonl"
    few.write_text("".join(dataset.open().readlines()[:20]))
    run(folder, few, 2)
    seconds = []
    for _ in range(repeats):
        begun = time.perf_counter()
        report = run(folder, few, 2)
        outside = time.perf_counter() - begun - report["wall_seconds"]
        phases = report["phases_seconds"]
        seconds.append(outside + sum(phases[name] for name in ("index", "start", "load")))
    print(f"\nfrom the command to the first request sent, 2 workers, median of {repeats}:")
    print(f"  {statistics.median(seconds):.2f} s (up to {max(seconds):.2f} s)")


def against_transformers(folder: Path, dataset: Path, asked: argparse.Namespace) -> None:
    """Output tokens per second of transformers' static batches with torch, on one core, against one worker's."""
    model = Path(asked.model) if asked.model else folder / "engine" / "checkpoint"
    try:
        import torch
        import transformers
    except ImportError:
        print("\nagainst transformers: torch and transformers are not installed")
        return
    found = [json.loads(line) for line in dataset.open()][:128]
    short = folder / "short.jsonl"
    short.write_text("".join(json.dumps(each) + "\n" for each in found))
    tokens = sum(each["output_tokens"] for each in found)
    torch.set_num_threads(1)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    ours, theirs = [], []
    for _ in range(asked.pairs):
        ours.append(tokens / through_trt_dp(folder, short, 1))
        started = time.perf_counter()
        for first in range(0, len(found), 32):
            group = torch.tensor([each["input_ids"] for each in found[first : first + 32]])
            length = found[first]["output_tokens"]
            loaded.generate(
                group,
                attention_mask=torch.ones_like(group),
                min_new_tokens=length,
                max_new_tokens=length,
                do_sample=False,
                pad_token_id=0,
            )
        theirs.append(tokens / (time.perf_counter() - started))
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    versions = f"transformers {transformers.__version__}, torch {torch.__version__}"
    print(
        f"\n1 worker, 1 core, against generate() of {versions}, batches of 32, {len(found)} requests:"
    )
    print(f"  trt-dp        {statistics.median(ours):10,.0f} output tok/s")
    print(f"  transformers  {statistics.median(theirs):10,.0f} output tok/s")
    print(f"  ratio         {ratio:10.1f}")


def trt_dp(*words: object) -> None:
    """A command, quietly; its own words if it fails."""
    done = subprocess.run([TRT_DP, *map(str, words)], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)


def lines(path: Path) -> int:
    with path.open() as file:
        return sum(1 for _ in file)


def machine() -> str:
    """What these figures come from."""
    cpu = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return f"{cpu}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}"


if __name__ == "__main__":
    main()
