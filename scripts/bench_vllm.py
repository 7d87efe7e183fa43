"""What trt-dp costs around vLLM on CPUs: one worker against LLM.generate, two workers against two static halves.

Both sides alternate; loading is left out of both, and a figure is the median of the pairs' ratios. The bare side is
vLLM's own LLM.generate in a process with the same threads and arguments; two of them answer the two halves of the
file, as vLLM's example for data parallelism splits it, and the slower one counts.
The model has a llama's shape and vLLM's dummy weights: a step takes as long as a real one of that size.
"""

from __future__ import annotations

import argparse
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
MODEL = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 8192,
    "hidden_size": 512,
    "intermediate_size": 1408,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 2048,
    "eos_token_id": 2,
}
ARGUMENTS = {
    "load_format": "dummy",
    "dtype": "float32",
    "enforce_eager": True,
    "max_num_seqs": 16,
    "kv_cache_memory_bytes": 1 << 29,
    "enable_chunked_prefill": False,  # as the engine has it on a CPU
}
EVEN = ["--input-mean", "64", "--input-stdev", "0", "--output-mean", "48", "--output-stdev", "0"]
TAIL = ["--input-median", "48", "--input-sigma", "0.8", "--input-cap", "512"]
TAIL += ["--output-median", "32", "--output-sigma", "1.2", "--output-cap", "512"]


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=160)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--only", choices=["one", "two", "tail"])
    parser.add_argument("--bare", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.bare:
        bare_process(*asked.bare)
        return
    with tempfile.TemporaryDirectory() as name:
        measure(Path(name), asked)


def measure(folder: Path, asked: argparse.Namespace) -> None:
    """Every figure that was asked for."""
    cores = len(os.sched_getaffinity(0))
    print(f"{platform.machine()}, {cores} cores, load {os.getloadavg()[0]:.1f}")
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text(json.dumps(MODEL))
    even, tail = folder / "even.jsonl", folder / "tail.jsonl"
    count = ["--num-requests", str(asked.requests), "--vocab-size", str(MODEL["vocab_size"])]
    trt_dp("prepare-dataset", "token-norm-dist", *count, *EVEN, "--output", even)
    trt_dp("prepare-dataset", "token-lognormal", *count, *TAIL, "--output", tail)
    figures = {
        "one": ("1 worker against LLM.generate, even lengths", even, 1),
        "two": ("2 workers against 2 static halves, even lengths", even, 2),
        "tail": ("2 workers against 2 static halves, long-tailed lengths", tail, 2),
    }
    for name, (title, data, workers) in figures.items():
        if asked.only in (None, name):
            compare(title, (folder, data, workers), asked.pairs)


def compare(title: str, what: tuple[Path, Path, int], pairs: int) -> None:
    """Output tokens per second through trt-dp and bare, in pairs."""
    requests = read(what[1])
    tokens = sum(one["output_tokens"] for one in requests)
    ours, bare = [], []
    for number in range(pairs):
        sides: list[Callable[[], None]] = [
            lambda: ours.append(tokens / through_trt_dp(*what)),
            lambda: bare.append(tokens / bare_seconds(*what)),
        ]
        for side in sides if number % 2 else reversed(sides):
            side()
    ratios = sorted(a / b for a, b in zip(ours, bare, strict=True))
    load = os.getloadavg()[0]
    print(f"\n{title}: {len(requests)} requests, {tokens:,} output tokens, {pairs} pairs:")
    print(f"  trt-dp   {statistics.median(ours):10,.0f} output tok/s")
    print(f"  bare     {statistics.median(bare):10,.0f} output tok/s")
    print(f"  ratio    {statistics.median(ratios):10.1%}   ({ratios[0]:.1%} to {ratios[-1]:.1%})")
    print(f"  load     {load:10.1f}", flush=True)


def through_trt_dp(folder: Path, data: Path, workers: int) -> float:
    """Seconds from the first request sent to the last answer."""
    sets = [word for key, value in ARGUMENTS.items() for word in ("--set", f"{key}={value}")]
    output = folder / "run"
    trt_dp(
        *("run", data, "--engine", "vllm", "--engine-path", folder / "model", "--fresh", *sets),
        *("--n-workers", workers, "--n-gpus", 1, "--output", output),
    )
    report = json.loads((output / "report.json").read_text())
    return float(report["performance"]["total_latency_ms"]) / 1e3


def bare_seconds(folder: Path, data: Path, processes: int) -> float:
    """Seconds that the slowest of the bare processes takes, from a common start."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    environment |= {"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    started = []
    for part in range(processes):
        line = [sys.executable, __file__, "--bare", str(folder / "model"), str(data)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        command = [*line, f"{part}/{processes}"]
        started.append(
            subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, **pipes)
        )
    for process in started:
        said(process, "ready")
    for process in started:
        process.stdin.write("go\n")
        process.stdin.flush()
    seconds = [float(said(process, "seconds").split()[1]) for process in started]
    for process in started:
        process.communicate()
    return max(seconds)


def said(process: subprocess.Popen[str], word: str) -> str:
    """The line of a bare process that begins so; vLLM writes others."""
    for line in process.stdout:
        if line.startswith(word):
            return line
    msg = f"a bare process ended with {process.wait()} before it was {word}"
    raise RuntimeError(msg)


def bare_process(model: str, data: str, part: str) -> None:
    """Answer one part of the file by LLM.generate, once told to begin."""
    from vllm import LLM, SamplingParams

    number, parts = map(int, part.split("/"))
    requests = read(Path(data))
    size = -(-len(requests) // parts)
    mine = requests[number * size : (number + 1) * size]
    llm = LLM(model=model, skip_tokenizer_init=True, generation_config="vllm", **ARGUMENTS)
    prompts = [{"prompt_token_ids": one["input_ids"]} for one in mine]
    wishes = [
        SamplingParams(
            max_tokens=one["output_tokens"], temperature=0, ignore_eos=True, detokenize=False
        )
        for one in mine
    ]
    llm.generate(prompts[:1], wishes[:1], use_tqdm=False)
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.perf_counter()
    llm.generate(prompts, wishes, use_tqdm=False)
    print("seconds", time.perf_counter() - began, flush=True)


def read(data: Path) -> list[dict[str, Any]]:
    """The requests of a file."""
    return [json.loads(line) for line in data.read_text().splitlines()]


def trt_dp(*words: object) -> None:
    """A command, which must do well."""
    done = subprocess.run([TRT_DP, *map(str, words)], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"trt-dp {words[0]} failed: {done.stderr}")


if __name__ == "__main__":
    main()
