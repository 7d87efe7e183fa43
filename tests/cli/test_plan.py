"""The command plan: what it says, and what it refuses."""

from __future__ import annotations

import json

import pytest
from conftest import trt_dp, trt_dp_here, write_dataset
from tiny_engine import tiny_engine


@pytest.fixture
def tiny(tmp_path):
    """A small engine for the CPU."""
    pytest.importorskip("openvino")
    return tiny_engine(tmp_path / "tiny")


def write(path, lengths):
    lines = (json.dumps({"input_ids": [1, 2], "output_tokens": n}) for n in lengths)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_plan_counts_requests_tokens_and_disk(tmp_path):
    """Without a step time, plan says what there is to do, and how to get times."""
    dataset = write(tmp_path / "requests.jsonl", [10, 20, 30])
    said = trt_dp_here("plan", "--request-path", dataset, cwd=tmp_path).stdout
    assert "requests: 3 valid, 0 invalid" in said
    assert "output tokens: up to 60, the longest 30" in said
    assert "time: not predicted. Give --calibration" in said


def test_plan_compares_orders_and_numbers_of_workers(tmp_path):
    """With a step time each number of workers gets a line with all orders, the bound and the cost."""
    dataset = write(tmp_path / "requests.jsonl", [100] * 40 + [1000])
    words = ["--step-ms", "10", "--slots", "4", "--n-workers", "1", "--n-workers", "2"]
    said = trt_dp_here(
        "plan", "--request-path", dataset, *words, "--price-per-hour", "36", cwd=tmp_path
    ).stdout.splitlines()
    one, two = (line for line in said if "worker" in line)
    assert one.startswith("1 worker: file ")
    assert two.startswith("2 workers: file ")
    for line in (one, two):
        assert "longest" in line
        assert "auto" in line
        assert "no order below" in line
        assert "cost with auto 0." in line
    assert "no order below 10.0 s" in two  # the longest alone


def calibrated(path, devices, step_ms):
    model = {"overhead": step_ms / 1e3, "per_sequence": 1e-5}
    found = {"engine": "x", "devices": devices, "slots": 8, "model": model, "trials": []}
    path.write_text(json.dumps({**found, "median_error": 0.0, "worst_error": 0.0}))
    return path


def test_plan_says_which_engine_is_fastest_on_the_same_gpus(tmp_path):
    """Two GPUs for each worker are worth it only if their steps take less than half of the time."""
    dataset = write(tmp_path / "requests.jsonl", [50] * 200)
    for step_ms, best in ((8, "tp1 is fastest, 4 workers"), (3, "tp2 is fastest, 2 workers")):
        one = calibrated(tmp_path / "tp1.json", 1, 10)
        two = calibrated(tmp_path / "tp2.json", 2, step_ms)
        words = ("plan", dataset, "--calibration", one, "--calibration", two)
        assert f"on 4 GPUs: {best}, " in trt_dp(*words, cwd=tmp_path).stdout


def test_plan_keeps_what_it_found_and_sees_a_change(tmp_path):
    """The second look reads no request again, and a file that has changed is read."""
    dataset = write(tmp_path / "requests.jsonl", [10, 20, 30])
    words = ("plan", "--request-path", dataset)
    first = trt_dp(*words, cwd=tmp_path).stdout.splitlines()[:3]
    kept = tmp_path / ".requests.jsonl.plan.npz"
    written = kept.stat().st_mtime_ns
    assert trt_dp(*words, cwd=tmp_path).stdout.splitlines()[:3] == first
    assert kept.stat().st_mtime_ns == written
    write(dataset, [10, 20, 31])
    assert "output tokens: up to 61" in trt_dp(*words, cwd=tmp_path).stdout


def test_plan_refuses_a_file_without_a_valid_request(tmp_path):
    """There is nothing to plan."""
    dataset = tmp_path / "requests.jsonl"
    dataset.write_text("{}\n")
    said = trt_dp_here("plan", "--request-path", dataset, cwd=tmp_path)
    assert said.returncode == 2
    assert "1 invalid line" in said.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--step-ms", "0"], "a step takes more than 0"),
        (["--step-ms", "-3"], "a step takes more than 0"),
        (["--step-ms", "6", "--n-workers", "0"], "greater than or equal to 1"),
    ],
)
def test_numbers_that_cannot_be_are_refused(tmp_path, words, said):
    """A step takes time, and a run has a worker."""
    dataset = write_dataset(tmp_path / "requests.jsonl", 3)
    done = trt_dp_here("plan", "--request-path", dataset, *words)
    assert done.returncode == 2
    assert said in done.stderr


def test_requests_that_cannot_fit_are_named_and_none_that_fits_is_refused(tmp_path, tiny):
    """What is longer than the engine takes is counted with its place; where nothing fits there is no run."""
    dataset = write(tmp_path / "requests.jsonl", [10, 2000, 30])
    said = trt_dp_here("plan", dataset, "--engine-path", tiny, cwd=tmp_path)
    assert "1 request is longer than the 512 tokens of the engine (line 2)" in said.stdout
    assert said.returncode == 0
    none = trt_dp_here(
        "plan", write(tmp_path / "long.jsonl", [900, 901]), "--engine-path", tiny, cwd=tmp_path
    )
    assert none.returncode == 2
    assert "no request fits: 2 requests are longer" in none.stderr


def test_text_and_open_ends_are_planned_with_what_run_would_allow(tmp_path):
    """Text is counted by its length, which is said; a request without a length gets --max-tokens."""
    dataset = tmp_path / "requests.jsonl"
    dataset.write_text('{"prompt": "Hello there"}\n{"input_ids": [1], "max_tokens": 5}\n')
    said = trt_dp_here("plan", dataset, "--max-tokens", "7", cwd=tmp_path).stdout
    assert "1 prompts are text" in said or "1 prompt is text" in said
    assert "up to 12, the longest 7; 1 request does not say how long" in said


def test_run_with_plan_loads_nothing_and_writes_nothing(tmp_path):
    """It says which worker gets what, and leaves no run folder."""
    dataset = write(tmp_path / "requests.jsonl", [10, 20])
    words = ("--engine", "echo", "--set", "refuse=no", "--n-workers", "2", "--plan")
    said = trt_dp_here("run", dataset, *words, cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    assert "engine: echo" in said.stdout
    assert "worker 0: " in said.stdout
    assert "worker 1: " in said.stdout
    assert not (tmp_path / "runs").exists()


def test_a_calibration_predicts_runs_of_the_engine_it_was_made_from(tmp_path, tiny):
    """From measuring to predicting with two commands; what is predicted grows with the work."""
    made = trt_dp(
        "calibrate",
        "--engine-path",
        tiny,
        "--seconds",
        "1",
        "--set",
        "max_sequences=4",
        cwd=tmp_path,
    )
    assert made.returncode == 0, made.stderr
    assert "full batch: 4 requests" in made.stdout
    seconds = []
    for count in (50, 500):
        dataset = write(tmp_path / f"{count}.jsonl", [20] * count)
        words = ("--calibration", "calibration.json", "--n-workers", "1")
        said = trt_dp_here("plan", dataset, *words, cwd=tmp_path).stdout
        line = next(line for line in said.splitlines() if "1 worker" in line)
        assert line.startswith("calibration, 1 worker: file ")
        seconds.append(float(line.split("file ")[1].split(" s")[0]))
    assert seconds[1] > 2 * seconds[0]
