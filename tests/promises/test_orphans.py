"""The promise that no process is ever left, whatever an engine starts and however the run ends."""

from __future__ import annotations

import signal
import subprocess
import sys

import psutil
import pytest
from conftest import marked, read_lines, start_trt_dp, wait_until, workers_of, write_dataset

_CHILDREN_EACH = 2


@pytest.fixture
def start(tmp_path, stand_ins):
    """A run of two workers whose engines have children in sessions of their own, up and answering."""

    def run(*options: str) -> subprocess.Popen[str]:
        dataset = write_dataset(tmp_path / "requests.jsonl", 240)
        process = start_trt_dp(
            "run", "--engine", "parent", "--request-path", dataset, "--n-workers", 2, "--no-timing",
            "--output-dir", tmp_path / "run", "--set", f"mark={tmp_path}", *options, env=stand_ins,
        )  # fmt: skip
        started.append(process)
        wait_until(lambda: len(marked(str(tmp_path))) >= 2 * _CHILDREN_EACH)
        wait_until((tmp_path / "run" / "journal").exists)
        return process

    started: list[subprocess.Popen[str]] = []
    yield run
    for process in started:  # so that a failing test leaves nothing either
        process.kill()
        process.communicate()
    for left in marked(str(tmp_path)):
        left.kill()


def _nothing_left(tmp_path) -> None:
    wait_until(lambda: not marked(str(tmp_path)), 10)


def test_a_good_end_leaves_nothing(tmp_path, start) -> None:
    """Children that outlive their engine's close are ended with the worker, before the command returns."""
    process = start("--set", "step_seconds=0.02")
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert not marked(str(tmp_path))
    assert len(read_lines(tmp_path / "run" / "results.jsonl")) == 240


def test_a_dead_workers_children_are_ended(tmp_path, start) -> None:
    """The children of a worker that is killed end before another is started in its place, and the run goes on."""
    process = start("--set", "step_seconds=0.05")
    before = marked(str(tmp_path))
    victims = workers_of(process.pid)
    assert len(victims) == 2
    for victim in victims:
        victim.kill()
    _, left = psutil.wait_procs(before, timeout=120)
    assert not left
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert said.count("killed by SIGKILL") == 2
    assert not marked(str(tmp_path))


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT])
def test_the_end_of_the_coordinator_leaves_nothing(tmp_path, start, kind) -> None:
    """A coordinator that is killed, or interrupted, leaves none of its workers' children."""
    process = start("--set", "step_seconds=0.2", "--grace-seconds", "0")
    process.send_signal(kind)
    process.communicate(timeout=120)
    _nothing_left(tmp_path)


def test_a_killed_guard_takes_its_worker_along(start) -> None:
    """A worker does not outlive a guard that somebody kills; it is started again under a new one."""
    process = start("--set", "step_seconds=0.05")
    (first, _) = workers_of(process.pid)
    first.parent().kill()
    _, left = psutil.wait_procs([first], timeout=120)
    assert not left
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said


def test_a_stopped_guard_still_ends_its_worker(tmp_path, start) -> None:
    """Guards that were stopped do their work when the run ends."""
    process = start("--set", "step_seconds=0.2", "--grace-seconds", "0")
    for worker in workers_of(process.pid):
        worker.parent().suspend()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert not marked(str(tmp_path))


def test_the_guard_ends_as_its_command_ended(tmp_path) -> None:
    """Whoever waits for a guard learns the command's exit status, or its signal."""
    from trt_dp.system.guarded import Guarded

    for code, status in (("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 11)", -11)):
        guarded = Guarded([sys.executable, "-c", code], {}, (), tmp_path / "log")
        wait_until(lambda it=guarded: it.poll() is not None)
        assert guarded.poll() == status
    missing = Guarded(["/there/is/none"], {}, (), tmp_path / "log")
    wait_until(lambda: missing.poll() is not None)
    assert missing.poll() == 127
    assert "/there/is/none: No such file" in (tmp_path / "log").read_text()
