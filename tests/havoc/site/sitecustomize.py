"""What is done to a process under test before it starts: limits, a clock that steps, a start that never ends."""

import os
import random
import resource
import sys
import time
from pathlib import Path

_WORKERS = {"trt_dp.worker", "trt_dp.launchers.mpi.rank"}
_LIMITS = {
    "fsize": resource.RLIMIT_FSIZE,
    "nofile": resource.RLIMIT_NOFILE,
    "as": resource.RLIMIT_AS,
}


def _limit(asked: str) -> None:
    """`nofile=64,as=2000000000`: for the coordinator, and what it starts."""
    for setting in asked.split(","):
        name, _, value = setting.partition("=")
        resource.setrlimit(_LIMITS[name], (int(value), int(value)))


def _step_the_clock(seed: int) -> None:
    """Let the time of day jump by up to two days, back and forth, several times a second."""
    true, true_ns = time.time, time.time_ns
    jumps = random.Random(seed ^ os.getpid())
    offsets = [jumps.uniform(-172_800, 172_800) for _ in range(64)]

    def offset() -> float:
        return offsets[int(time.monotonic() * 5) % len(offsets)]

    time.time = lambda: true() + offset()
    time.time_ns = lambda: true_ns() + int(offset() * 1e9)


def _never_connect(marks: Path, absent: set[str]) -> None:
    """Sleep for ever in these launches of a worker, counted over the whole run."""
    number = 1
    while not _first(marks / f"start-{number}"):
        number += 1
    if str(number) in absent and _first(marks / f"absent-{number}"):
        time.sleep(1000)


def _first(mark: Path) -> bool:
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


if os.environ.get("HAVOC_LIMITS") and "trt_dp" in sys.orig_argv:
    _limit(os.environ["HAVOC_LIMITS"])
if os.environ.get("HAVOC_CLOCK"):
    _step_the_clock(int(os.environ["HAVOC_CLOCK"]))
if os.environ.get("HAVOC_ABSENT") and _WORKERS & set(sys.orig_argv):
    _never_connect(Path(os.environ["HAVOC_MARKS"]), set(os.environ["HAVOC_ABSENT"].split(",")))
