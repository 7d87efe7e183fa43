"""The TensorRT-LLM engine on real GPUs: TRT_DP_GPU_ENGINE names a built engine. These tests have never been run."""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import shutil
import time
from pathlib import Path

import pytest
from conftest import read_lines, start_trt_dp, trt_dp, workers_of
from trtllm_engines import write_requests

from trt_dp.engines.trtllm.folder import Model, read_engine

HERE = shutil.which("nvidia-smi") and importlib.util.find_spec("tensorrt_llm")
ENGINE = os.environ.get("TRT_DP_GPU_ENGINE", "")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not HERE, reason="needs nvidia-smi and tensorrt_llm"),
    pytest.mark.skipif(not ENGINE, reason="needs TRT_DP_GPU_ENGINE, the folder of an engine"),
]
RECORD = Path(__file__).parents[1] / "data" / "trtllm_signatures.json"


@pytest.fixture(scope="module")
def model() -> Model:
    """What the engine was built for."""
    return read_engine(ENGINE)


@pytest.fixture
def requests(model: Model, tmp_path: Path) -> Path:
    """Two hundred requests of different lengths."""
    most = min(64, model.max_seq_len // 4)
    made = [
        ([(31 * n + 7 * place) % model.vocabulary for place in range(1 + n % most)], 1 + n % most)
        for n in range(200)
    ]
    return write_requests(tmp_path / "requests.jsonl", made)


def run(requests: Path, out: Path, *words: object, timing: bool = False):
    """A run of the engine as a user types it."""
    return trt_dp(
        *("run", "--engine-path", ENGINE, "--request-path", requests, "--output-dir", out),
        *(() if timing else ("--no-timing",)),
        *words,
    )


def test_record_agrees_with_what_is_installed():
    """The names that the double was made from are those of the installed library: look here first."""
    record = json.loads(RECORD.read_text())["modules"]
    for name, module in record.items():
        here = importlib.import_module(name)
        for kind, entry in module.items():
            _check(getattr(here, kind, None), f"{name}.{kind}", entry)


def _check(found: object, where: str, entry: dict) -> None:
    if found is None:  # a class that is only ever seen as a value may be named otherwise
        assert "call" not in entry, f"there is no {where}"
        return
    for method, parameters in {
        "__init__": entry.get("call", []),
        **entry.get("methods", {}),
    }.items():
        text = _parameters(getattr(found, method))
        for one in parameters:
            parameter = one.partition("=")[0].partition(" ")[0].lstrip("*")
            newer = "@" in one
            assert not parameter or newer or parameter in text, (
                f"{where}.{method} has no {parameter}"
            )


def _parameters(function: object) -> str:
    """The parameters as text: bindings have no signature, and list their overloads in the docstring."""
    try:
        return f"{inspect.signature(function)} {function.__doc__}"
    except (TypeError, ValueError):
        return str(function.__doc__)


def test_workers_do_not_change_answers(requests, tmp_path):
    """One request at a time, so that no batch differs, one worker and all of them give the same bytes."""
    one, all_of_them = tmp_path / "one", tmp_path / "all"
    for out, words in ((one, ("--n-workers", 1)), (all_of_them, ())):
        done = run(requests, out, "--set", "max_batch_size=1", *words)
        assert done.returncode == 0, done.stderr
    answers = (one / "results.jsonl").read_bytes()
    assert answers == (all_of_them / "results.jsonl").read_bytes()
    assert answers


@pytest.mark.parametrize("more", ["mode=inflight", "mode=static", "loader=executor"])
def test_every_way_gives_the_length_asked_for(requests, tmp_path, more):
    """Each way to drive the engine answers every request, in full, and says how full its batches were."""
    done = run(requests, tmp_path / "out", "--set", more)
    assert done.returncode == 0, done.stderr
    asked = [json.loads(line)["output_tokens"] for line in requests.read_text().splitlines()]
    answers = read_lines(tmp_path / "out" / "results.jsonl")
    assert [len(line["output_ids"]) for line in answers] == asked
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert all(worker["facts"]["mean_batch"] >= 1 for worker in report["workers"])


def test_engine_times_are_on_the_workers_clock(requests, tmp_path):
    """Queue, first token and total follow one another, and none is negative or longer than the run."""
    started = time.monotonic()
    done = run(requests, tmp_path / "out", timing=True)
    assert done.returncode == 0, done.stderr
    for line in read_lines(tmp_path / "out" / "results.jsonl"):
        timing = line["timing"]
        assert 0 <= timing["queue_seconds"] <= timing["first_token_seconds"]
        assert timing["first_token_seconds"] <= timing["total_seconds"]
        assert timing["total_seconds"] <= time.monotonic() - started


def test_eos_ends_answers(requests, tmp_path):
    """With --stop-at-eos every answer is at most as long as asked, and says why it ended."""
    done = run(requests, tmp_path / "out", "--stop-at-eos")
    assert done.returncode == 0, done.stderr
    asked = [json.loads(line)["output_tokens"] for line in requests.read_text().splitlines()]
    for line, most in zip(read_lines(tmp_path / "out" / "results.jsonl"), asked, strict=True):
        assert line["finish_reason"] in {"stop", "length"}
        assert len(line["output_ids"]) <= most
        assert line["finish_reason"] == "stop" or len(line["output_ids"]) == most


def test_over_long_requests_are_failures(model, tmp_path):
    """A request beyond max_seq_len is a failure that names it, and the rest is answered."""
    made = [([1, 2, 3], 4), ([1] * model.max_seq_len, 4), ([1, 2], model.max_seq_len)]
    requests = write_requests(tmp_path / "requests.jsonl", made)
    done = run(requests, tmp_path / "out", "--n-workers", 1)
    assert done.returncode == 3, done.stderr
    failures = read_lines(tmp_path / "out" / "failures.jsonl")
    assert [line["task_id"] for line in failures] == [1, 2]
    assert "max_seq_len" in failures[1]["error"]["message"]


def test_killed_worker_is_replaced(requests, tmp_path):
    """A worker that is killed gives its GPU's memory back, and what it held is answered by others."""
    out = tmp_path / "out"
    process = start_trt_dp(
        *("run", "--engine-path", ENGINE, "--request-path", str(requests)),
        *("--output-dir", str(out), "--no-timing", "--set", "max_batch_size=1"),
    )
    until = time.monotonic() + 900
    journal = out / "journal"
    while time.monotonic() < until and not (journal.exists() and journal.stat().st_size > 2000):
        time.sleep(0.05)
    workers_of(process.pid)[0].kill()
    output, errors = process.communicate(timeout=900)
    assert process.returncode == 0, output + errors
    assert len(read_lines(out / "results.jsonl")) == 200
