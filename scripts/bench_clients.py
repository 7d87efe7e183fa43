"""Whole tools side by side: each sends the same load, as its own command, to the same server, which answers at once.

The server counts: requests per second are from the first request to the last, so that a tool's start is in no figure.
The server has a core of its own, and each tool the other. CPU is that of all processes of a tool from start to end, as
far as it is known, and includes that start. Tools take turns; each figure is the median of its runs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
from llama_tokenizer import llama_tokenizer

HERE = Path(__file__).absolute().parent
sys.path.insert(0, str(HERE.parent))
IN_FLIGHT, INPUT, OUTPUT = 32, 64, 128
LIMIT_SECONDS = 230


def trt_dp(url: str, count: int, place: Path, *, stream: bool) -> list[str]:
    """`trt-dp run --engine openai`, with the concurrency that it learns."""
    data = place / "requests.jsonl"
    ids = list(range(1000, 1000 + INPUT))
    with data.open("w") as file:
        for index in range(count):
            row = {"task_id": index, "input_ids": ids, "output_tokens": OUTPUT}
            file.write(json.dumps(row) + "\n")
    return [
        *(sys.executable, "-m", "trt_dp", "run", str(data), "--engine", "openai", "--endpoint", url),
        *("--model", "m", "--set", "dialect=vllm", "--set", f"stream={str(stream).lower()}"),
        *("--output", str(place / "run")),
    ]  # fmt: skip


def aiperf(url: str, count: int, place: Path, *, stream: bool, program: str) -> list[str]:
    """AIPerf."""
    return [
        *(program, "profile", "-m", "m", "--url", url, "--endpoint-type", "completions"),
        *(["--streaming"] if stream else []),
        *("--tokenizer", str(_tokenizer(place)), "--use-server-token-count", "--ui", "none"),
        *("--concurrency", str(IN_FLIGHT), "--request-count", str(count)),
        *("--isl", str(INPUT), "--osl", str(OUTPUT), "--extra-inputs", "ignore_eos:true"),
        *("--artifact-dir", str(place / "aiperf")),
    ]


def guidellm(url: str, count: int, place: Path, *, stream: bool, program: str) -> list[str]:
    """Guidellm, which streams by default."""
    plain = "" if stream else ",stream=false"
    return [
        *(program, "run", "--disable-console-interactive"),
        *("--backend", f"kind=openai_http,target={url},model=m,request_format=/v1/completions{plain}"),
        *("--profile", f"kind=concurrent,streams={IN_FLIGHT}"),
        *("--constraint", f"kind=max_requests,count={count}"),
        *("--tokenizer", f"kind=hf_auto,model={_tokenizer(place)}"),
        *("--data", f"kind=synthetic_text,prompt_tokens={INPUT},output_tokens={OUTPUT}"),
        *("--output", f"kind=json,path={place / 'guidellm.json'}"),
    ]  # fmt: skip


def llmperf(url: str, count: int, place: Path, *, stream: bool, program: str) -> list[str]:
    """LLMPerf's checkout, unchanged; it streams chats only, from a Ray actor for each request in flight."""
    del stream
    checkout = Path(program)
    hub = llama_tokenizer(place / "hub", checkout / "src/llmperf/sonnet.txt")
    variables = {
        "OPENAI_API_BASE": f"{url}/v1",
        "OPENAI_API_KEY": "none",
        "HF_HUB_CACHE": str(hub),
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(checkout / "src"),
        "RAY_TMPDIR": str(place / "ray"),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    return [
        *("env", *(f"{name}={value}" for name, value in variables.items())),
        *(str(HERE.parent / ".venv-llmperf/bin/python"), str(checkout / "token_benchmark_ray.py")),
        *("--model", "m", "--llm-api", "openai", "--additional-sampling-params", "{}"),
        *("--mean-input-tokens", str(INPUT), "--stddev-input-tokens", "0"),
        *("--mean-output-tokens", str(OUTPUT), "--stddev-output-tokens", "0"),
        *("--max-num-completed-requests", str(count), "--timeout", str(LIMIT_SECONDS)),
        *("--num-concurrent-requests", str(IN_FLIGHT), "--results-dir", str(place / "llmperf")),
    ]


SHARES = {  # so that each sends for a few seconds
    "trt-dp": 1.0,
    "aiperf": 0.1,
    "guidellm": 0.04,
    "llmperf": 0.2,
}
ONLY = {"llmperf": "stream"}


def _tokenizer(place: Path) -> Path:
    from trt_dp.demo import write_demo

    folder = place / "tokenizer"
    if not folder.exists():
        folder.mkdir()
        write_demo(folder)
    return folder


@contextlib.contextmanager
def serving(said: dict[str, float]) -> Iterator[str]:
    """The server's URL; at its end, what it saw."""
    command = [sys.executable, str(HERE / "instant_server.py")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        os.sched_setaffinity(server.pid, {max(os.sched_getaffinity(0))})
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
        server.stdin.close()
        said.update(json.loads(server.stdout.readline()))


def cpu_of(tool: subprocess.Popen) -> dict[str, float]:
    """The CPU seconds of the tool's processes by kind, asked for until it has ended."""
    seen: dict[int, tuple[str, float]] = {}
    below: set[psutil.Process] = set()
    late = time.monotonic() + LIMIT_SECONDS
    while tool.poll() is None:
        with contextlib.suppress(psutil.Error):
            for one in (top := psutil.Process(tool.pid), *top.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    times = one.cpu_times()
                    kind = "worker" if "trt_dp.worker" in " ".join(one.cmdline()) else "rest"
                    seen[one.pid] = kind, times.user + times.system
                    below.add(one)
        if time.monotonic() > late:
            _kill(below)
            msg = f"{tool.args[0]} did not end within {LIMIT_SECONDS} s"
            raise SystemExit(msg)
        time.sleep(0.05)
    _kill(below)
    kinds = {kind for kind, _ in seen.values()}
    return {kind: sum(took for each, took in seen.values() if each == kind) for kind in kinds}


def _kill(processes: set[psutil.Process]) -> None:
    for one in processes:
        with contextlib.suppress(psutil.Error):
            one.kill()  # refuses a number that another process has by now


def measure(make: Callable, count: int, *, stream: bool) -> dict[str, float]:
    """One run of one tool."""
    place = Path(tempfile.mkdtemp(prefix="bench-clients-"))
    said: dict[str, float] = {}
    try:
        with serving(said) as url, (place / "log").open("w") as log:
            command = make(url, count, place, stream=stream)
            tool = subprocess.Popen(
                command, cwd=place, stdout=log, stderr=subprocess.STDOUT, env=_environment()
            )
            os.sched_setaffinity(tool.pid, {min(os.sched_getaffinity(0))})
            cpu = cpu_of(tool)
        if tool.returncode or said["requests"] < count * 0.9:
            msg = f"{command[0]} failed:\n{(place / 'log').read_text()[-3000:]}"
            raise SystemExit(msg)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    per_request = {f"{kind}_us": took / count * 1e6 for kind, took in cpu.items()}
    server = said["server_cpu_seconds"] / said["requests"] * 1e6
    return {"rate": said["requests"] / said["seconds"], "server_us": server, **per_request}


def _environment() -> dict[str, str]:
    path = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path}


def main() -> None:
    """Measure the tools that were named, in turns."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--requests", type=int, default=30_000, help="unary ones of trt-dp")
    parser.add_argument("--aiperf", help="its program")
    parser.add_argument("--guidellm", help="its program")
    parser.add_argument("--llmperf", metavar="DIR", help="a checkout of it")
    parser.add_argument("--kinds", default="unary,stream")
    asked = parser.parse_args()
    tools: dict[str, Callable] = {"trt-dp": trt_dp}
    for name, make in (("aiperf", aiperf), ("guidellm", guidellm), ("llmperf", llmperf)):
        if program := getattr(asked, name):
            tools[name] = lambda *args, make=make, program=program, **more: make(
                *args, program=str(Path(program).absolute()), **more
            )
    print(f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores, {IN_FLIGHT} in flight, "
          f"{INPUT} tokens in, {OUTPUT} out, medians of {asked.repeats}")  # fmt: skip
    for kind in asked.kinds.split(","):
        runs: dict[str, list[dict[str, float]]] = {
            name: [] for name in tools if ONLY.get(name, kind) == kind
        }
        for _ in range(asked.repeats):
            for name, found in runs.items():
                least = 1.0 if kind == "unary" else 0.25
                count = max(IN_FLIGHT * 4, int(asked.requests * SHARES[name] * least))
                found.append(measure(tools[name], count, stream=kind == "stream"))
        _print(kind, runs)


def _print(kind: str, runs: dict[str, list[dict[str, float]]]) -> None:
    print(f"\n{kind:10} {'requests/s':>12} {'tokens/s':>12} {'CPU us/request':>28} {'server':>8}")
    for name, found in runs.items():
        rate, server = (
            statistics.median(one[key] for one in found) for key in ("rate", "server_us")
        )
        worker, rest = (
            statistics.median(one.get(key, 0.0) for one in found)
            for key in ("worker_us", "rest_us")
        )
        parts = f"{worker:,.0f} worker + {rest:,.0f}" if worker else f"{rest:,.0f}"
        print(
            f"{name:10} {rate:>12,.0f} {rate * OUTPUT:>12,.0f} {parts:>28} {server:>8,.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
