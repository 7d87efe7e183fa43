"""Runs the engine transformers for scripts/gpu_bench.py: bare in a process of its own, or through trt-dp."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpu_nvml import Nvml
from typing_extensions import Self


@dataclass
class Bench:
    """What is measured with, and what was found so far."""

    folder: Path
    nvml: Nvml
    gpu: bool
    deadline: float
    pairs: int
    rows: list[tuple[str, str]] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    def note(self, name: str, text: str, **figures: Any) -> None:
        """A row of the table, printed at once."""
        self.rows.append((name, text))
        self.figures[name] = {"text": text, **figures}
        print(f"  {name:<42} {text}", flush=True)

    @property
    def left(self) -> float:
        """Seconds."""
        return self.deadline - time.monotonic()


class Run:
    """A run in progress; leaving it ends it."""

    def __init__(
        self, bench: Bench, model: str, data: str, workers: int, *more: str, **variables: str
    ) -> None:
        self.folder = bench.folder / f"run-{time.monotonic_ns()}"
        line = [*command(bench, model, data, workers), "--output", str(self.folder), *more]
        line += ["--max-restarts", "1000"]
        one = {"CUDA_VISIBLE_DEVICES": "0"} if bench.gpu else {}
        self.process = subprocess.Popen(
            line,
            env={**os.environ, **one, **variables},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def __enter__(self) -> Self:
        """It was started when it was made."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self.process.terminate()
        self.finish(20)

    def finish(self, seconds: float) -> int:
        """The exit status; a run that does not end is killed."""
        try:
            self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
        return self.process.returncode

    def journal_size(self) -> int:
        """How many bytes of answers there are."""
        journal = self.folder / "journal"
        return journal.stat().st_size if journal.exists() else 0

    def wait_for_answers(self) -> None:
        """Until there is one; raises if the run ends without."""
        limit = time.monotonic() + 120
        while not self.journal_size():
            if self.process.poll() is not None or time.monotonic() > limit:
                msg = f"the run ended before it answered: {self.process.returncode}"
                raise RuntimeError(msg)
            time.sleep(0.05)

    def workers(self) -> list[int]:
        """The processes of the workers."""
        below, found = [self.process.pid], []
        while below:
            pid = below.pop()
            below += [int(child) for child in _words(f"/proc/{pid}/task/{pid}/children", b" ")]
            if b"trt_dp.worker" in _words(f"/proc/{pid}/cmdline", b"\0"):
                found.append(pid)
        return found


def _words(path: str, between: bytes) -> list[bytes]:
    """The words of a file; none if its process has ended."""
    try:
        return [word for word in Path(path).read_bytes().split(between) if word.strip()]
    except OSError:
        return []


def command(bench: Bench, model: str, data: str, workers: int) -> list[str]:
    """A run on one device."""
    sharing = ["--workers-per-gpu", str(workers)] if bench.gpu and workers > 1 else []
    if not bench.gpu:
        sharing = ["--n-gpus", str(max(1, cores() // workers))]
    return [
        *(sys.executable, "-m", "trt_dp", "run", str(bench.folder / f"{data}.jsonl")),
        *("--engine", "transformers", "--engine-path", str(bench.folder / model)),
        *("--n-workers", str(workers), "--no-timing", *sharing),
    ]


@dataclass
class Told:
    """What a whole run gave."""

    rate: float
    seconds: float
    results: bytes
    tokens: int
    cpu_seconds: float  # of all its processes, loading included


def through(bench: Bench, data: str, workers: int, model: str = "model", *more: str) -> Told:
    """Output tokens per second of a whole run, from the first request sent to the last answer."""
    folder = bench.folder / f"run-{time.monotonic_ns()}"
    line = [*command(bench, model, data, workers), "--output", str(folder), *more]
    one = {"CUDA_VISIBLE_DEVICES": "0"} if bench.gpu else {}
    before = _children_cpu()
    done = subprocess.run(
        line,
        capture_output=True,
        text=True,
        timeout=max(30.0, bench.left),
        env={**os.environ, **one},
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    report = json.loads((folder / "report.json").read_text())
    results = (folder / "results.jsonl").read_bytes()
    tokens = sum(len(json.loads(line)["output_ids"]) for line in results.splitlines())
    shutil.rmtree(folder)
    seconds = report["performance"]["total_latency_ms"] / 1e3
    return Told(tokens / seconds, seconds, results, tokens, _children_cpu() - before)


def _children_cpu() -> float:
    """CPU seconds of all processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def bare(bench: Bench, mode: str) -> dict[str, Any]:
    """The engine in a process of its own that holds all requests and does nothing but step it."""
    words = [str(bench.folder / "model"), str(bench.folder / "even.jsonl"), mode]
    return dict(
        json.loads(
            run_python(
                Path(__file__).with_name("gpu_bench.py"),
                "--bare",
                *words,
                seconds=max(30.0, bench.left),
            ).splitlines()[-1]
        )
    )


def bare_process(model: str, data: str, mode: str) -> None:
    """Load, answer everything, print what it took."""
    lines = [json.loads(line) for line in Path(data).read_text().splitlines()]
    nvml = Nvml()
    answer, facts = _generate(model, lines) if mode == "generate" else _step(model, lines, mode)
    before = nvml.joules(nvml.gpus[0]) if nvml.gpus else None
    begun, worked = time.perf_counter(), time.process_time()
    tokens = answer()
    seconds, cpu = time.perf_counter() - begun, time.process_time() - worked
    after = nvml.joules(nvml.gpus[0]) if nvml.gpus else None
    joules = None if before is None or after is None else after - before
    rate = {"rate": tokens / seconds, "seconds": seconds, "tokens": tokens, "joules": joules}
    rate["cpu_rate"] = tokens / cpu
    print(json.dumps(rate | {"facts": facts()}))


Answering = tuple[Callable[[], int], Callable[[], dict[str, Any]]]


def _step(model: str, lines: list[dict[str, Any]], mode: str) -> Answering:
    """The engine, kept full; what answers everything and counts the tokens, and what tells how."""
    import numpy as np

    from trt_dp.types import EngineSpec, Placement, Request, Sampling
    from trt_dp.worker.serve import load

    spec = EngineSpec("transformers", model, {"mode": mode})
    gpu, every = Placement(0, devices=("0",)), tuple(range(cores()))
    engine = load(spec, gpu if Nvml().gpus else Placement(0, cores=every))
    waiting = [
        Request(n, n, np.array(one["input_ids"]), one["output_tokens"], Sampling(ignore_eos=True))
        for n, one in enumerate(lines)
    ][::-1]

    def answer() -> int:
        flying = tokens = 0
        while waiting or flying:
            while waiting and flying < engine.capacity:
                engine.submit(waiting.pop())
                flying += 1
            results = engine.step()
            tokens += sum(len(result.output_ids) for result in results)
            flying -= len(results)
        return tokens

    return answer, lambda: (engine.facts(), engine.close())[0]


def _generate(model: str, lines: list[dict[str, Any]]) -> Answering:
    """Static batches by transformers' own generate(), in the order of the file, padded on the left."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the engine has it
    import torch
    import transformers

    gpu = torch.cuda.is_available()
    loaded = transformers.AutoModelForCausalLM.from_pretrained(
        model, dtype="auto" if gpu else torch.float32
    ).to("cuda" if gpu else "cpu")
    size = 256 if gpu else 32

    def answer() -> int:
        tokens = 0
        for group in (lines[at : at + size] for at in range(0, len(lines), size)):
            width = max(len(one["input_ids"]) for one in group)
            rows = [[0] * (width - len(one["input_ids"])) + one["input_ids"] for one in group]
            blanks = torch.tensor([width - len(one["input_ids"]) for one in group])[:, None]
            length = max(one["output_tokens"] for one in group)
            loaded.generate(
                torch.tensor(rows, device=loaded.device),
                attention_mask=(torch.arange(width)[None] >= blanks).long().to(loaded.device),
                min_new_tokens=length,
                max_new_tokens=length,
                do_sample=False,
                pad_token_id=0,
            )
            tokens += sum(one["output_tokens"] for one in group)
        return tokens

    return answer, lambda: {"batch": size}


def run_python(*words: object, seconds: float = 300.0) -> str:
    """What a Python process printed; its own words if it fails."""
    line = [sys.executable, *map(str, words)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=seconds, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout


def cores() -> int:
    return len(os.sched_getaffinity(0))
