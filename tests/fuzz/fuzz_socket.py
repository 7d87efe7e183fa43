"""What is said on the socket: hostile workers and strangers, in a random order, beside an honest worker."""

from __future__ import annotations

import contextlib
import random
import resource
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import hostile
from conftest import Watcher, echo_job, expected_lines, read_lines, write_dataset

from trt_dp.coordinator import run as runner
from trt_dp.coordinator.workers.limits import Limits
from trt_dp.launchers import local

Turn = Callable[[list[bytes]], bool]
_MOST_MEMORY_KIB = 2 << 20


def _sitting(dataset: Path, folder: Path, harms: list[str], strangers: list[str]) -> None:
    """One run; raises AssertionError unless it gives what it must, in the memory it may have."""
    launcher = hostile.HostileLauncher([hostile.HARMS[name] for name in harms])
    come = [threading.Thread(target=_come, args=(name, "")) for name in strangers]

    def act(_snapshot: object) -> None:
        for number, name in enumerate(strangers):
            if launcher.address and not come[number].ident:
                come[number] = threading.Thread(target=_come, args=(name, launcher.address))
                come[number].start()

    before, local.LocalLauncher = local.LocalLauncher, lambda: launcher
    limits = Limits(max_restarts=len(harms) + 5, answer_seconds=0.5)
    options = {"step_seconds": "0.02", "batch": "4", "only_worker": "0"}
    try:
        outcome = runner.run(echo_job(dataset, folder, options, limits=limits), Watcher(act))
    finally:
        local.LocalLauncher = before
    for thread in come:
        if thread.ident:
            thread.join(60)
    assert read_lines(folder / "results.jsonl") == expected_lines(dataset)
    assert outcome.report.requests.failed == 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < _MOST_MEMORY_KIB


def _come(name: str, address: str) -> None:
    with contextlib.suppress(OSError):  # the run is over, and the door shut
        hostile.STRANGERS[name](address)


@contextlib.contextmanager
def _peers(folder: Path, dice: random.Random) -> Iterator[Turn]:
    dataset = write_dataset(folder / "requests.jsonl", 300)

    def turn(content: list[bytes]) -> bool:
        harms = dice.choices(list(hostile.HARMS), k=dice.randint(0, 12))
        strangers = dice.choices(list(hostile.STRANGERS), k=dice.randint(0, 3))
        content.append(f"{harms} {strangers}".encode())
        shutil.rmtree(folder / "run", ignore_errors=True)
        _sitting(dataset, folder / "run", harms, strangers)
        return True

    yield turn


TARGETS: dict[str, tuple[Callable, int]] = {"peers": (_peers, 30)}
