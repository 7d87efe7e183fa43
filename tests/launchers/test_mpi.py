"""The launcher mpi with a real mpirun: worlds of several ranks that answer, and of which nothing is ever left."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from conftest import (
    expected_lines,
    marked,
    read_lines,
    start_trt_dp,
    wait_until,
    write_dataset,
)

from trt_dp.errors import UsageError
from trt_dp.launchers.mpi import launcher as mpi

pytestmark = pytest.mark.long

_needs_mpi = pytest.mark.skipif(
    mpi.find_mpirun() is None or importlib.util.find_spec("mpi4py") is None,
    reason="no mpirun, or no mpi4py",
)
_RANK = "trt_dp.launchers.mpi.rank"


@pytest.fixture
def start(tmp_path, stand_ins):
    """Two workers of two ranks each, on four GPUs that the environment claims; every process of theirs is marked."""

    def run(*options: object, count: int = 160, **variables: str) -> subprocess.Popen[str]:
        dataset = write_dataset(tmp_path / "requests.jsonl", count)
        own = {"CUDA_VISIBLE_DEVICES": "0,1,2,3", "MARK": str(tmp_path)}
        environment = {**stand_ins, **own, **variables}
        process = start_trt_dp(
            "run", "--launcher", "mpi", "--engine", "chorus", "--request-path", dataset,
            "--n-workers", 2, "--n-gpus", 2, "--no-timing", "--output-dir", tmp_path / "run",
            *options, env=environment,
        )  # fmt: skip
        started.append(process)
        return process

    started: list[subprocess.Popen[str]] = []
    yield run
    for process in started:  # so that a failing test leaves nothing either
        process.kill()
        process.communicate()
    left = marked(str(tmp_path))
    for one in left:
        one.kill()


def _ranks(tmp_path, rank: int) -> list[psutil.Process]:
    """The processes that are this rank of their world."""
    return [p for p in _of_worlds(tmp_path) if _variable(p, rank)]


def _of_worlds(tmp_path) -> list[psutil.Process]:
    return [p for p in marked(str(tmp_path)) if p.cmdline()[1:2] == ["-c"] and _RANK in p.cmdline()]


def _variable(process: psutil.Process, rank: int) -> bool:
    there = process.environ()
    return there.get("OMPI_COMM_WORLD_RANK", there.get("PMI_RANK")) == str(rank)


def _wait_until_it_runs(tmp_path) -> None:
    journal = tmp_path / "run" / "journal"
    wait_until(lambda: journal.exists() and journal.stat().st_size > 1000)


def _end(process: subprocess.Popen[str]) -> str:
    _, said = process.communicate(timeout=120)
    return said


@_needs_mpi
def test_every_rank_takes_part_in_the_answers(tmp_path, start) -> None:
    """Two worlds of two ranks answer as echo does, in order; followers write to their worker's log; all leave."""
    process = start("--set", "step_seconds=0.01")
    said = _end(process)
    assert process.returncode == 0, said
    assert expected_lines(tmp_path / "requests.jsonl") == read_lines(
        tmp_path / "run" / "results.jsonl"
    )
    assert not marked(str(tmp_path))
    for worker in (0, 1):
        log = (tmp_path / "run" / "logs" / f"worker-{worker}.log").read_text()
        assert "rank 1: loaded chorus" in log
        assert "rank 1: stopped" in log


@_needs_mpi
@pytest.mark.parametrize("victim", [0, 1, None])
def test_a_killed_process_ends_its_world_and_costs_nothing(tmp_path, start, victim) -> None:
    """A leader, a follower or an mpirun that is killed takes its whole world along; what it held is answered again."""
    process = start("--set", "step_seconds=0.05")
    _wait_until_it_runs(tmp_path)
    before = [(p, _world_of(p)) for p in _of_worlds(tmp_path)]
    chosen = _ranks(tmp_path, victim or 0)[0]
    world = _world_of(chosen)
    doomed = [p for p, of in before if of == world]
    assert len(doomed) == 2
    (chosen if victim is not None else _mpirun_of(chosen)).kill()
    _, left = psutil.wait_procs(doomed, timeout=120)
    assert not left
    said = _end(process)
    assert process.returncode == 0, said
    assert f"worker {world} died" in said
    assert expected_lines(tmp_path / "requests.jsonl") == read_lines(
        tmp_path / "run" / "results.jsonl"
    )
    assert not marked(str(tmp_path))


def _world_of(process: psutil.Process) -> str:
    return process.environ()["TRT_DP_WORKER"]


def _mpirun_of(process: psutil.Process) -> psutil.Process:
    """What the guard has started."""
    while not any("guard.py" in word for word in process.parent().cmdline()):
        process = process.parent()
    return process


@_needs_mpi
@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT])
def test_the_end_of_the_coordinator_ends_all_ranks(tmp_path, start, kind) -> None:
    """A coordinator that is killed or interrupted leaves no rank, no mpirun, no guard, and none of their files."""
    process = start("--set", "step_seconds=0.3", "--grace-seconds", 0)
    _wait_until_it_runs(tmp_path)
    scratches = {p.environ()["OMPI_MCA_btl_sm_backing_directory"] for p in _of_worlds(tmp_path)}
    assert len(scratches) == 2
    process.send_signal(kind)
    said = _end(process)
    if kind == signal.SIGINT:
        assert process.returncode == 130, said
        assert not marked(str(tmp_path))
    wait_until(lambda: not marked(str(tmp_path)), 10)
    assert not any(Path(scratch).exists() for scratch in scratches)


@_needs_mpi
@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_refuses_ends_the_run_with_its_sentence(tmp_path, start, rank) -> None:
    """An engine that refuses on any rank stops the run at once, in that rank's words."""
    process = start("--set", f"refuse_rank={rank}", "--set", "collective_start=false")
    said = _end(process)
    assert process.returncode == 1
    assert "trt-dp: " + ("rank 1: " if rank else "") + "this rank has no memory left" in said
    assert not marked(str(tmp_path))


@_needs_mpi
def test_a_rank_that_raises_while_the_leader_waits_for_it(tmp_path, start) -> None:
    """A follower that dies while loading ends its world, even if the leader's engine waits for it; its log says why."""
    process = start("--set", "raise_rank=1", "--max-restarts", 0)
    said = _end(process)
    assert process.returncode == 1
    assert "no worker is left" in said
    assert "MemoryError" in (tmp_path / "run" / "logs" / "worker-0.log").read_text()
    assert not marked(str(tmp_path))


@_needs_mpi
def test_an_mpirun_of_another_mpi_is_named(tmp_path, start) -> None:
    """Ranks that do not see each other are refused with the reason, instead of each being a worker."""
    fake = tmp_path / "bin" / "mpirun"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\nshift 4\n"$@" &\n"$@"\nwait\n')
    fake.chmod(0o755)
    path = f"{fake.parent}:{os.environ['PATH']}"
    process = start(
        count=10, PATH=path, OMPI_MCA_ess_singleton_isolated="1"
    )  # Open MPI 4: no orted
    said = _end(process)
    assert process.returncode == 1
    assert "mpirun started 2 ranks, and mpi4py sees 1" in said
    assert not marked(str(tmp_path))


@_needs_mpi
def test_a_run_may_itself_be_a_rank(tmp_path, start, monkeypatch) -> None:
    """Inside an MPI job the worlds of a run are its own: the job's marks reach no worker."""
    words = [mpi.find_mpirun(), "--host", "localhost:1", "-n", "1"]
    monkeypatch.setattr("conftest.COMMAND", [*words, sys.executable, "-m", "trt_dp"])
    process = start(count=20, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    said = _end(process)
    assert process.returncode == 0, said
    assert len(read_lines(tmp_path / "run" / "results.jsonl")) == 20


def test_without_mpirun_or_mpi4py_one_sentence_says_what_to_install(monkeypatch) -> None:
    """The launcher refuses to be made where a part is missing, and names the part."""
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(UsageError, match=r"needs mpirun.*install Open MPI"):
        mpi.MpiLauncher()
    monkeypatch.setattr(shutil, "which", lambda *_, **__: "/usr/bin/mpirun")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match="pip install mpi4py"):
        mpi.MpiLauncher()


def test_ranks_are_as_many_as_gpus_and_one_without(tmp_path, monkeypatch) -> None:
    """Cores are no ranks; the user's own settings win; the run's key is on no command line."""
    from trt_dp.types import Placement

    started = []
    monkeypatch.setattr(mpi, "Guarded", lambda *given: started.append(given))
    monkeypatch.setattr(shutil, "which", lambda *_, **__: "/usr/bin/mpirun")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    environment = {"TRT_DP_KEY": "secret", "OMPI_MCA_hwloc_base_binding_policy": "core"}
    launcher = mpi.MpiLauncher()
    launcher.start(Placement(0, devices=("2", "3")), environment, tmp_path / "log")
    launcher.start(Placement(1, cores=(0, 1, 2)), environment, tmp_path / "log")
    (two, given, _, _, first), (one, _, cores, _, second) = started
    assert given["OMPI_MCA_btl_sm_backing_directory"] == first != second
    for scratch in (first, second):
        Path(scratch).rmdir()
    assert (two[two.index("-n") + 1], two[-1]) == ("2", "2")
    assert (one[one.index("-n") + 1], one[-1], cores) == ("1", "1", (0, 1, 2))
    assert "secret" not in " ".join(two)
    assert given["OMPI_MCA_hwloc_base_binding_policy"] == "core"
    assert given["OMPI_MCA_rmaps_base_oversubscribe"] == "1"
