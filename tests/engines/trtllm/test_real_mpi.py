"""TensorRT-LLM's use of MPI, with real MPI under the double: processes that start, fail, die and leave nothing.

They prove how trt-dp behaves on Open MPI 4.1 and 5 as root and as another user, with the calls that TensorRT-LLM's
source makes. They do not prove that TensorRT-LLM itself makes no others.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from conftest import COMMAND, children, read_lines, wait_until
from real_mpi import (
    PREFIX,
    as_user,
    can_be_user,
    environment_of,
    install_double,
    open_mpi,
)
from trtllm_engines import (
    expected,
    forget_double,
    make_checkpoint,
    make_engine,
    some_requests,
    write_requests,
)

_TOOLS = (
    shutil.which("cc")
    and (PREFIX / "include" / "mpi.h").exists()
    and importlib.util.find_spec("mpi4py")
)
pytestmark = [
    pytest.mark.open_mpi,
    pytest.mark.long,
    pytest.mark.skipif(
        not _TOOLS, reason="needs a C compiler, and the dev tools (scripts/setup dev)"
    ),
]
_ROOT = pytest.param("root", marks=pytest.mark.skipif(os.geteuid() != 0, reason="needs root"))
_USER = pytest.param("user", marks=pytest.mark.skipif(not can_be_user(), reason="is root only"))
_needs_4 = pytest.mark.skipif(open_mpi(4) is None, reason="needs Open MPI 4.1: scripts/mpi-check")
_needs_5 = pytest.mark.skipif(open_mpi(5) is None, reason="needs Open MPI 5 of the package index")
_4 = pytest.param(4, marks=_needs_4)
_5 = pytest.param(5, marks=_needs_5)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The double with a compiled executorWorker."""
    made = install_double(tmp_path_factory.mktemp("double"))
    yield made
    forget_double()


@pytest.fixture
def start(tmp_path, site):
    """Starts a run of 40 requests on the double, with this Open MPI and as this user."""
    started: list[subprocess.Popen[str]] = []
    requests = write_requests(tmp_path / "requests.jsonl", some_requests(40))

    def run(mpi: int, who: str, path: Path, *words: object, **more: str) -> subprocess.Popen[str]:
        own = {"TMPDIR": str(tmp_path), "HOME": str(tmp_path)}
        variables = {**os.environ, **environment_of(open_mpi(mpi), site, **{**own, **more})}
        before = as_user() if who == "user" else []
        line = [*before, *COMMAND, "run", "--engine-path", path, "--request-path", requests]
        line += ["--output", tmp_path / "out", "--no-timing", *words]
        process = subprocess.Popen(
            [str(word) for word in line],
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def _end(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, errors = process.communicate(timeout=120)
    return process.returncode, output + errors


def _answers(tmp_path: Path) -> list[list[int]]:
    return [line["output_ids"] for line in read_lines(tmp_path / "out" / "results.jsonl")]


EXPECTED = [expected(*one) for one in some_requests(40)]


def _left_behind(before: set[str]) -> list[str]:
    """What Open MPI keeps in the places where it would by itself, and trt-dp in shared memory, and does not go away."""
    names = ("ompi", "prte", "pmix", "sm_segment", "vader", "trt-dp-")
    left = [Path(one) for one in _around() - before if Path(one).name.startswith(names)]
    with contextlib.suppress(AssertionError):  # tests that run beside this one clean up too
        wait_until(lambda: not any(one.exists() for one in left), 60)
    return [str(one) for one in left if one.exists()]


def _around() -> set[str]:
    return {str(one) for place in ("/dev/shm", "/tmp") for one in Path(place).iterdir()}


@pytest.mark.parametrize("who", [_ROOT, _USER])
@_needs_4
def test_ranks_that_the_library_starts_answer_and_leave_nothing(tmp_path, start, who):
    """With Open MPI 4 two workers of two GPUs answer; their programs find their library, and no file is left."""
    before = _around()
    path = make_engine(tmp_path / "e", tp=2)
    code, said = _end(start(4, who, path, "--n-gpus", 2))
    assert code == 0, said
    assert _answers(tmp_path) == EXPECTED
    assert not _left_behind(before)
    assert not [one for one in tmp_path.iterdir() if one.name.startswith(("ompi", "openmpi"))]


@pytest.mark.parametrize("who", [_ROOT, _USER])
@pytest.mark.parametrize("mpi", [_4, _5])
def test_ranks_of_mpirun_answer_and_leave_nothing(tmp_path, start, mpi, who):
    """With --launcher mpi either Open MPI serves an engine of two GPUs, whoever runs it."""
    before = _around()
    path = make_engine(tmp_path / "e", tp=2)
    code, said = _end(start(mpi, who, path, "--n-gpus", 2, "--launcher", "mpi"))
    assert code == 0, said
    assert _answers(tmp_path) == EXPECTED
    assert not _left_behind(before)


@_needs_5
def test_open_mpi_5_is_named_with_the_way_out(tmp_path, start):
    """Open MPI 5 cannot start the ranks of TensorRT-LLM: one sentence says so, and what to add."""
    code, said = _end(start(5, "root", make_engine(tmp_path / "e", tp=2), "--n-gpus", 2))
    assert code == 1
    assert "cannot start the processes of an engine for 2 GPUs" in said
    assert "add --launcher mpi" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("who", [_ROOT, _USER])
@pytest.mark.parametrize("mpi", [_4, _5])
def test_checkpoints_run_whoever_runs_them(tmp_path, start, mpi, who):
    """The LLM API starts a process by MPI even for one GPU, which works as root too, and leaves no file."""
    before = _around()
    path = make_checkpoint(tmp_path / "c")
    code, said = _end(start(mpi, who, path, "--engine", "trtllm-torch", "--n-workers", 2))
    assert code == 0, said
    assert _answers(tmp_path) == EXPECTED
    assert not _left_behind(before)


@_needs_4
def test_a_program_without_its_library_is_no_hang(tmp_path, start, site):
    """An executorWorker whose library is nowhere ends the run at once, with the library's name and what to do."""
    incomplete = tmp_path / "site"
    shutil.copytree(site, incomplete, ignore=shutil.ignore_patterns("libs", "__pycache__"))
    path = make_engine(tmp_path / "e", tp=2)
    process = start(4, "root", path, "--n-gpus", 2, PYTHONPATH=str(incomplete))
    code, said = _end(process)
    assert code == 1
    assert "executorWorker" in said
    assert "does not find libtensorrt_llm.so" in said


def _advice(mpi: int, site: Path, answer: Path, *folder: object) -> list[str]:
    """What the doctor's probe finds out about the engine trtllm."""
    variables = {**os.environ, **environment_of(open_mpi(mpi), site)}
    line = [sys.executable, "-m", "trt_dp.doctor.probe", answer, "plugin", "trt_dp.engines"]
    line = [str(word) for word in [*line, "trtllm", *folder]]
    subprocess.run(line, env=variables, capture_output=True, check=True)
    found = json.loads(answer.read_text())
    assert not found["why"], found
    return found["advice"]


@_needs_5
def test_the_doctor_warns_of_open_mpi_5(tmp_path, site):
    """Before any run the doctor says what will not work with Open MPI 5, and what to add."""
    (said,) = _advice(5, site, tmp_path / "answer")
    assert "cannot start the processes" in said
    assert "--launcher mpi" in said


@_needs_4
def test_the_doctor_warns_of_a_missing_library(tmp_path, site):
    """The doctor names the library that executorWorker will not find; with it there is nothing to say."""
    path = make_engine(tmp_path / "e", tp=2)
    incomplete = tmp_path / "site"
    shutil.copytree(site, incomplete, ignore=shutil.ignore_patterns("libs", "__pycache__"))
    (said,) = _advice(4, incomplete, tmp_path / "answer", path, 1)
    assert "does not find libtensorrt_llm.so" in said
    assert _advice(4, site, tmp_path / "answer", path, 1) == []


@_needs_4
def test_a_load_error_is_quoted_and_tried_once_more_only(tmp_path, start):
    """When a rank cannot load, the run says why in TensorRT-LLM's own words, after one more try instead of five."""
    path = make_engine(tmp_path / "e", tp=2)
    words = ("--n-gpus", 2, "--n-workers", 1)
    code, said = _end(start(4, "root", path, *words, TRTLLM_DOUBLE_LOAD="oom"))
    assert code == 1
    assert "CUDA runtime error in cudaMalloc: out of memory" in said
    log = (tmp_path / "out" / "logs" / "worker-0.log").read_text()
    assert log.count("loading trtllm") == 2


@_needs_4
def test_a_killed_rank_is_noticed(tmp_path, start):
    """A rank that the kernel kills costs its worker, which is replaced, and no request."""
    path = make_engine(tmp_path / "e", tp=2)
    words = ("--n-gpus", 2, "--n-workers", 1)
    process = start(4, "root", path, *words, TRTLLM_DOUBLE_SECONDS="0.05")
    journal = tmp_path / "out" / "journal"
    wait_until(lambda: journal.exists() and journal.stat().st_size > 200)
    _ranks(process.pid)[1].kill()
    code, said = _end(process)
    assert code == 0, said
    assert _answers(tmp_path) == EXPECTED
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [worker["deaths"] for worker in report["workers"]] == [1]
    assert "executorWorker" in said


def _ranks(pid: int) -> list[psutil.Process]:
    return [one for one in children(pid) if one.name() == "executorWorker"]
