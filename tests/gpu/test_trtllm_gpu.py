"""TensorRT-LLM on real GPUs: scripts/gpu-check runs these and prints what they prove. No GPU has run them yet."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest
from conftest import read_lines, workers_of
from gpu_machine import COMMAND, SECONDS, ask, need, requests_for
from trtllm_engines import write_requests

from trt_dp.engines.trtllm.stop_ids import stop_ids
from trt_dp.errors import EngineRefused
from trt_dp.launchers.mpi.launcher import find_mpirun

_DEMO_LENGTH = 256


def check_answers(requests: Path, out: Path) -> None:
    """Every request has an answer of its full length, in order, and workers that answered had full batches."""
    asked = [json.loads(line) for line in requests.read_text().splitlines()]
    answers = read_lines(out / "results.jsonl")
    assert [line["task_id"] for line in answers] == [line["task_id"] for line in asked]
    assert [len(line["output_ids"]) for line in answers] == [
        line["output_tokens"] for line in asked
    ]


def facts_of_busy_workers(out: Path) -> list[dict]:
    """What the engines said that had requests: one that came up last may have had none."""
    report = json.loads((out / "report.json").read_text())
    return [worker["facts"] for worker in report["workers"] if worker["requests"]]


@pytest.mark.proves("doctor")
def test_doctor_finds_nothing_wrong(request):
    """The doctor can run TensorRT-LLM's engines here, and finds the names that trt-dp uses: look here first."""
    done = ask("doctor", "--json")
    found = json.loads(done.stdout)
    request.node.user_properties.append(("run", {"options": "doctor", "report": found}))
    able = {one["name"]: one["why"] for one in found["abilities"] if not one["able"]}
    assert "trtllm" not in able, able["trtllm"]
    assert not found["differences"].get("trtllm")


@pytest.mark.proves("tp1")
def test_one_worker(model, requests, run):
    """One worker answers every request in full and in order, with batches of more than one."""
    out = run(model.folder, requests, "--n-workers", 1, "--n-gpus", model.world_size)
    check_answers(requests, out)
    assert all(facts["mean_batch"] >= 1 for facts in facts_of_busy_workers(out))


@pytest.mark.proves("8 workers")
def test_a_worker_on_every_gpu(model, requests, run, gpus):
    """As many workers as the GPUs allow, up to eight, answer every request in full and in order."""
    workers = min(8, gpus // model.world_size)
    need(gpus, 2 * model.world_size)
    out = run(model.folder, requests, "--n-workers", workers, "--n-gpus", model.world_size)
    check_answers(requests, out)


@pytest.mark.proves("same answers")
def test_workers_do_not_change_answers(model, requests, run, gpus):
    """One request at a time, so that no batch differs, one worker and two of them give the same bytes."""
    need(gpus, 2 * model.world_size)
    words = ("--n-gpus", model.world_size, "--set", "max_batch_size=1")
    answers = [
        (run(model.folder, requests, "--n-workers", count, *words) / "results.jsonl").read_bytes()
        for count in (1, 2)
    ]
    assert answers[0] == answers[1]


@pytest.mark.proves("tp2 orchestrator")
def test_two_gpus_started_by_the_library(engine_of, run, gpus, tmp_path):
    """An engine on two GPUs, whose processes TensorRT-LLM starts itself, answers every request."""
    need(gpus, 2)
    model = engine_of(2)
    requests = requests_for(model.vocabulary, model.max_seq_len, tmp_path)
    check_answers(requests, run(model.folder, requests, "--n-workers", 1, "--n-gpus", 2))


@pytest.mark.proves("tp2 mpi")
def test_two_gpus_started_by_mpirun(engine_of, run, gpus, tmp_path):
    """An engine on two GPUs, whose processes mpirun starts, answers every request."""
    need(gpus, 2)
    if find_mpirun() is None:
        pytest.skip("needs mpirun, and there is none")
    model = engine_of(2)
    requests = requests_for(model.vocabulary, model.max_seq_len, tmp_path)
    words = ("--n-workers", 1, "--n-gpus", 2, "--launcher", "mpi")
    check_answers(requests, run(model.folder, requests, *words))


@pytest.mark.proves("two per GPU")
def test_two_workers_share_a_gpu(model, requests, run):
    """Two workers on each GPU divide its memory, and answer every request."""
    words = ("--workers-per-gpu", 2, "--n-workers", 2, "--n-gpus", model.world_size)
    check_answers(requests, run(model.folder, requests, *words))


@pytest.mark.proves("static")
def test_static_batches(model, requests, run):
    """Static batches answer every request in full, and none of them falls apart."""
    out = run(model.folder, requests, "--n-gpus", model.world_size, "--set", "mode=static")
    check_answers(requests, out)
    assert not any("failed_batches" in facts for facts in facts_of_busy_workers(out))


@pytest.mark.proves("executor loader")
def test_loaded_without_the_runner(model, requests, run):
    """The Executor, made directly, answers every request in full."""
    out = run(model.folder, requests, "--n-gpus", model.world_size, "--set", "loader=executor")
    check_answers(requests, out)


@pytest.mark.proves("trtllm-torch")
def test_a_checkpoint_without_an_engine(checkpoint, run, tmp_path):
    """A checkpoint runs as it is, by TensorRT-LLM's LLM API, and every request is answered in full."""
    requests = requests_for(_vocabulary(checkpoint), _DEMO_LENGTH, tmp_path)
    out = run(checkpoint, requests, "--engine", "trtllm-torch", "--n-workers", 1)
    check_answers(requests, out)


@pytest.mark.proves("trtllm-torch tp2")
def test_a_checkpoint_on_two_gpus(checkpoint, run, gpus, tmp_path):
    """A checkpoint runs on two GPUs, by TensorRT-LLM's LLM API."""
    need(gpus, 2)
    requests = requests_for(_vocabulary(checkpoint), _DEMO_LENGTH, tmp_path)
    words = ("--engine", "trtllm-torch", "--n-workers", 1, "--n-gpus", 2)
    check_answers(requests, run(checkpoint, requests, *words))


def _vocabulary(checkpoint: Path) -> int:
    return json.loads((checkpoint / "config.json").read_text())["vocab_size"]


@pytest.mark.proves("times")
def test_engine_times_are_on_the_workers_clock(model, requests, run):
    """Queue, first token and total follow one another, and none is negative or longer than the run."""
    started = time.monotonic()
    out = run(model.folder, requests, "--n-gpus", model.world_size, timing=True)
    for line in read_lines(out / "results.jsonl"):
        timing = line["timing"]
        assert 0 <= timing["queue_seconds"] <= timing["first_token_seconds"]
        assert timing["first_token_seconds"] <= timing["total_seconds"]
        assert timing["total_seconds"] <= time.monotonic() - started


@pytest.mark.proves("stop at EOS")
def test_eos_ends_answers(model, requests, run):
    """With --stop-at-eos every answer is at most as long as asked, and shorter only where it stopped."""
    try:
        stop_ids(model.folder)
    except EngineRefused as refused:
        pytest.skip(str(refused))
    out = run(model.folder, requests, "--n-gpus", model.world_size, "--stop-at-eos")
    asked = [json.loads(line)["output_tokens"] for line in requests.read_text().splitlines()]
    for line, most in zip(read_lines(out / "results.jsonl"), asked, strict=True):
        assert line["finish_reason"] in {"stop", "length"}
        assert len(line["output_ids"]) <= most
        assert line["finish_reason"] == "stop" or len(line["output_ids"]) == most


@pytest.mark.proves("too long")
def test_over_long_requests_are_failures(model, run, tmp_path):
    """A request beyond max_seq_len is a failure that names it, and the rest is answered."""
    made = [([1, 2, 3], 4), ([1] * model.max_seq_len, 4), ([1, 2], model.max_seq_len)]
    requests = write_requests(tmp_path / "requests.jsonl", made)
    out = run(model.folder, requests, "--n-workers", 1, "--n-gpus", model.world_size, status=3)
    failures = read_lines(out / "failures.jsonl")
    assert [line["task_id"] for line in failures] == [1, 2]
    assert "max_seq_len" in failures[1]["error"]["message"]


@pytest.mark.proves("killed worker")
def test_killed_worker_is_replaced(model, requests, tmp_path):
    """A worker that is killed gives its GPU's memory back, and what it had in flight is answered by others."""
    out = tmp_path / "out"
    words = ["--n-gpus", model.world_size, "--no-timing", "--set", "max_batch_size=1"]
    line = [*COMMAND, "run", "--engine-path", model.folder, "--request-path", requests]
    line = [str(word) for word in [*line, "--output", out, *words]]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + SECONDS
    journal = out / "journal"
    while time.monotonic() < until and process.poll() is None:
        if journal.exists() and journal.stat().st_size > 2000:
            workers_of(process.pid)[0].kill()
            break
        time.sleep(0.05)
    output, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, output + errors
    assert len(read_lines(out / "results.jsonl")) == 200
