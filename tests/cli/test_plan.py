"""The command plan: what it says, and what it refuses."""

from __future__ import annotations

import json

import pytest
from conftest import trt_dp, write_dataset


def write(path, lengths):
    lines = (json.dumps({"input_ids": [1, 2], "output_tokens": n}) for n in lengths)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_plan_counts_requests_tokens_and_disk(tmp_path):
    """Without a step time, plan says what there is to do, and how to get times."""
    dataset = write(tmp_path / "requests.jsonl", [10, 20, 30])
    said = trt_dp("plan", "--request-path", dataset, cwd=tmp_path).stdout
    assert "requests: 3 valid, 0 invalid" in said
    assert "output tokens: up to 60, the longest 30" in said
    assert "time: not predicted. Give --step-ms" in said


def test_plan_compares_orders_and_numbers_of_workers(tmp_path):
    """With a step time each number of workers gets a line with all orders, the bound and the cost."""
    dataset = write(tmp_path / "requests.jsonl", [100] * 40 + [1000])
    words = ["--step-ms", "10", "--slots", "4", "--n-workers", "1", "--n-workers", "2"]
    said = trt_dp(
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


def test_plan_refuses_a_file_without_a_valid_request(tmp_path):
    """There is nothing to plan."""
    dataset = tmp_path / "requests.jsonl"
    dataset.write_text("{}\n")
    said = trt_dp("plan", "--request-path", dataset, cwd=tmp_path)
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
    done = trt_dp("plan", "--request-path", dataset, *words)
    assert done.returncode == 2
    assert said in done.stderr
