"""What many agents with many workers cost their coordinator: CPU, connections and memory.

All of them are processes of this machine and share its cores, so the rate says nothing about real hosts. Each agent is
told of GPUs that are not there, so that it gets its own workers; echo does not look for them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

sys.path[:0] = [str(Path(__file__).parents[1] / "tests" / name) for name in ("", "support")]

from conftest import write_dataset  # noqa: E402 - the way to it is made above

TRT_DP = [sys.executable, "-m", "trt_dp"]
STEADY = ["--set", "step_seconds=1", "--set", "batch=8", "--set", "capacity=16"]  # 8 a second each
LEAST_MEMORY = 2_500_000_000
TELL_SECONDS = 10.0


def main() -> int:
    """Start them all, answer, and print what it took; 1 if an answer is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--agents", type=int, default=64)
    parser.add_argument("--workers", type=int, default=8, help="of each agent")
    parser.add_argument("--wave", type=int, default=8, help="Agents that start at a time.")
    parser.add_argument("--requests", type=int, default=600_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="agents-") as name:
        folder = Path(name)
        requests = write_dataset(folder / "requests.jsonl", asked.requests)
        alone = [*TRT_DP, "run", requests, "--engine", "echo", "--no-timing", "--plain"]
        subprocess.run([*alone, "--output", folder / "alone"], check=True, capture_output=True)
        run = begin(folder, requests, asked.agents * asked.workers)
        crowd = Crowd(folder / "key", asked.agents, asked.workers, asked.wave)
        try:
            watch(run, folder / "run", crowd)
        finally:
            run.terminate()
        same = all_same(folder / "alone/results.jsonl", folder / "run/results.jsonl")
        for agent in crowd.agents:
            agent.wait(60)
        for said in sorted({one.read_text().strip() for one in folder.glob("agent-*")} - {""}):
            print(said)
    print("the results are those of a local run" if same else "THE RESULTS DIFFER")
    return 0 if same and run.returncode == 0 else 1


def begin(folder: Path, requests: Path, workers: int) -> subprocess.Popen[bytes]:
    """The coordinator, waiting for agents."""
    line = [*TRT_DP, "run", requests, "--engine", "echo", "--no-timing", "--plain", *STEADY]
    line += ["--output", folder / "run", "--key-file", folder / "key", "--address", "127.0.0.1"]
    line += ["--start-seconds", "900", "--stall-seconds", "900", "--n-workers", str(workers)]
    run = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=(folder / "said").open("w"))
    while not (folder / "key").exists():
        time.sleep(0.05)
    return run


def join(key: Path, number: int, workers: int) -> subprocess.Popen[bytes]:
    """An agent with devices of its own."""
    gpus = ",".join(str(number * workers + one) for one in range(workers))
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": gpus, "PATH": "/usr/bin:/bin"}
    line = ["nice", *TRT_DP, "agent", "--key-file", str(key)]  # the coordinator has its own machine
    said = key.with_name(f"agent-{number}")
    return subprocess.Popen(line, env=environment, stderr=said.open("w"))


class Crowd:
    """The agents: so many start at a time, since hosts would not share two cores while they start."""

    def __init__(self, key: Path, agents: int, workers: int, wave: int) -> None:
        self._key, self._all, self._each, self._wave = key, agents, workers, wave
        self.workers = agents * workers
        self.agents: list[subprocess.Popen[bytes]] = []

    def start_more(self, ready: int) -> None:
        """The next ones, once the workers of all that were started are up."""
        begun = len(self.agents)
        if ready >= begun * self._each:
            more = range(begun, min(self._all, begun + self._wave))
            self.agents += [join(self._key, number, self._each) for number in more]


def watch(run: subprocess.Popen[bytes], output: Path, crowd: Crowd) -> None:
    """Print what the coordinator uses, once all are up and at the end."""
    workers = crowd.workers
    crowd.start_more(0)
    began = time.monotonic()
    coordinator = psutil.Process(run.pid)
    told = began
    up: tuple[float, float] | None = None
    while run.poll() is None:
        time.sleep(0.5)
        if psutil.virtual_memory().available < LEAST_MEMORY:
            sys.exit("stopped: too little memory is left on this machine")
        status = _status(output)
        used = _used(coordinator)
        if used is None or not status:
            continue
        now = (time.monotonic(), used, status["completed"])
        ready = [lane["state"] for lane in status["lanes"]].count("ready")
        crowd.start_more(ready)
        if up is None and now[0] - told > TELL_SECONDS:
            told = now[0]
            print(f"{ready} workers up after {told - began:.0f} s, {used:.1f} s of CPU")
        if up is None and ready >= workers:
            up = now
            print(f"all {workers} workers up after {now[0] - began:.0f} s, {used:.1f} s of CPU")
            print(f"{len(coordinator.net_connections('tcp')) - 1} connections, {_memory(run.pid)}")
        last = now
    if up and last[2] > up[2]:
        count, seconds, cpu = last[2] - up[2], last[0] - up[0], last[1] - up[1]
        print(
            f"then {count / seconds:,.0f} requests/s, {1e6 * cpu / count:.1f} us of CPU for each,"
        )
        print(f"{cpu / seconds:.0%} of a core")


def _status(output: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((output / "status.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return found


def _used(process: psutil.Process) -> float | None:
    """Seconds of CPU so far."""
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return None
    return times.user + times.system


def _memory(coordinator: int) -> str:
    """Of the coordinator, of everything that takes part, and of one of each kind; shared pages count once."""
    kinds: dict[str, list[int]] = {}
    for process in psutil.process_iter():
        if kind := _kind(process):
            kinds.setdefault(kind, []).append(process.memory_full_info().pss)
    mine = psutil.Process(coordinator).memory_full_info().uss
    count, whole = sum(map(len, kinds.values())), sum(map(sum, kinds.values()))
    each = ", ".join(f"{kind} {sum(one) / len(one) / 1e6:.1f} MB" for kind, one in kinds.items())
    return (
        f"coordinator {mine / 1e6:.0f} MB, all {count} processes {whole / 1e9:.1f} GB (each {each})"
    )


def _kind(process: psutil.Process) -> str:
    """What it is in the run; nothing if it takes no part."""
    try:
        line = " ".join(process.cmdline())
    except psutil.Error:
        return ""
    marks = {
        "trt_dp.worker": "worker",
        "guard.py": "guard",
        "agent --key": "agent",
        "agents-": "run",
    }
    return next((kind for mark, kind in marks.items() if mark in line), "")


def all_same(one: Path, other: Path) -> bool:
    """Whether two files hold the same bytes."""
    return other.exists() and one.read_bytes() == other.read_bytes()


if __name__ == "__main__":
    sys.exit(main())
