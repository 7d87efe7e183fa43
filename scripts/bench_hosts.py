"""What several hosts cost: bytes against a file that they see, start, and how soon the loss of a host is noticed.

The hosts are network namespaces of this machine (root; tests/support/hosts.py), so they share its cores: figures of
throughput are the coordinator's cost, not what real machines reach.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "tests" / name) for name in ("", "support")]
os.environ["TRT_DP_TEST_HOSTS"] = "1"

from bench import write_dataset  # noqa: E402 - the way to it is made above
from hosts import Host, hidden, network, why_no_ssh  # noqa: E402

RUN = [sys.executable, "-m", "trt_dp", "run", "--engine", "echo", "--no-timing", "--plain"]
SLOW = ["--set", "step_seconds=0.05", "--set", "batch=8"]


def main() -> None:
    """Measure all of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    if why := why_no_ssh():
        sys.exit(f"scripts/bench_hosts: {why}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "data").mkdir()
        data = write_dataset(folder / "data/long.jsonl", asked.requests, 2048, 128)
        print(f"{asked.requests:,} requests of 2048/128, {data.stat().st_size / 1e6:,.0f} MB")
        print(f"load {os.getloadavg()[0]:.1f}")
        with network(folder, 3) as net:
            net.add(hidden(folder / "data"))
            net.add(hidden(folder / "data"))
            ssh = ["--launcher-set", f"ssh={net.ssh()}"]
            throughput(net.hosts[0], data, ssh, asked.repeats)
            losses(net.hosts, data, ssh)


def throughput(here: Host, data: Path, ssh: list[str], repeats: int) -> None:
    """End to end, alternating."""
    ways = {
        "this machine": [],
        "two hosts, same file": ["--hosts", "n1,n2", *ssh],
        "two hosts, bytes": ["--hosts", "n3,n4", *ssh],
    }
    found: dict[str, list[dict]] = {name: [] for name in ways}
    here.run(*RUN, data, "--output", data.parent / "warm")
    for _ in range(repeats):
        for name, words in ways.items():
            found[name].append(measured(here, data, "--n-workers", "2", *words))
    print(f"{'':22}  start-up s   requests/s   coordinator CPU us/request")
    for name, reports in found.items():
        start = statistics.median(r["phases_seconds"]["start"] for r in reports)
        rate = statistics.median(r["performance"]["request_throughput_req_s"] for r in reports)
        cpu = statistics.median(r["coordinator"]["cpu_us_per_request"] for r in reports)
        print(f"{name:22}  {start:10.2f}   {rate:10,.0f}   {cpu:10.1f}")


def measured(here: Host, data: Path, *words: object) -> dict:
    output = data.parent / "run"
    shutil.rmtree(output, ignore_errors=True)
    done = here.run(*RUN, data, "--output", output, *words)
    assert done.returncode == 0, done.stderr
    return json.loads((output / "report.json").read_text())


def losses(hosts: list[Host], data: Path, ssh: list[str]) -> None:
    """How soon what happens to a host is in the event log, and when hosts are empty after it."""
    for name, act in (
        ("cable pulled", hosts[2].cut),
        ("agent killed", lambda: hosts[2].kill("trt_dp.agent")),
        ("worker killed", lambda: hosts[2].kill("trt_dp.worker")),
    ):
        print(f"{name}: noticed after {noticed(hosts, data, ssh, act):.2f} s")
        hosts[2].mend()
    process, _ = begun(hosts, data, ssh)
    hosts[0].kill("trt_dp run")
    at = time.monotonic()
    while any(host.processes("trt_dp", "guard.py") for host in hosts):
        time.sleep(0.02)
    print(f"coordinator killed: all hosts empty after {time.monotonic() - at:.2f} s")
    process.communicate()


def begun(hosts: list[Host], data: Path, ssh: list[str]) -> tuple[subprocess.Popen, Path]:
    """A slow run that has answers."""
    output = data.parent / "run"
    shutil.rmtree(output, ignore_errors=True)
    process = hosts[0].start(*RUN, data, "--output", output, "--hosts", "n1,n2", *ssh, *SLOW)
    journal = output / "journal"
    while not journal.exists() or journal.stat().st_size < 100_000:
        time.sleep(0.02)
    return process, output / "events.jsonl"


def noticed(hosts: list[Host], data: Path, ssh: list[str], act: object) -> float:
    process, events = begun(hosts, data, ssh)
    before = events.read_text().count('"death"')
    at = time.monotonic()
    act()
    while events.read_text().count('"death"') == before:
        time.sleep(0.02)
    took = time.monotonic() - at
    process.terminate()
    process.terminate()
    process.communicate()
    return took


if __name__ == "__main__":
    main()
