"""Orders in real runs: worker processes, the same bytes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import echo_job, expected_lines, read_lines, run_echo, write_dataset
from msgspec.structs import replace

from trt_dp.coordinator.job import check
from trt_dp.coordinator.order.choose import NAMES
from trt_dp.coordinator.order.earlier_run import lengths_of_run
from trt_dp.dataset.open import open_dataset
from trt_dp.errors import UsageError


def uneven(path, count=400):
    """A dataset whose lengths have a long tail."""
    dice = np.random.default_rng(3)
    lengths = np.clip(dice.lognormal(3, 1.2, count), 1, 900).astype(int).tolist()
    lines = (
        {"task_id": n, "input_ids": [n + 1, 2, 3], "output_tokens": k}
        for n, k in enumerate(lengths)
    )
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.mark.parametrize("name", NAMES)
def test_results_are_the_same_whatever_the_order(tmp_path, name):
    """Every order leaves the same bytes, with more requests than fit at once and with few for each slot."""
    dataset = uneven(tmp_path / "requests.jsonl")
    for capacity in ("8", "300"):
        folder = tmp_path / f"run-{capacity}"
        options = {"capacity": capacity, "batch": "4", "step_seconds": "0.001"}
        outcome = run_echo(dataset, folder, options, order=name)
        assert expected_lines(dataset) == read_lines(outcome.folder / "results.jsonl")


@pytest.mark.parametrize("name", ["longest", "lanes"])
def test_a_request_that_kills_is_found_in_any_order(tmp_path, name):
    """Quarantine finds the one request that kills workers; all others are answered."""
    dataset = uneven(tmp_path / "requests.jsonl", 120)
    options = {"capacity": "16", "crash": "17"}
    outcome = run_echo(dataset, tmp_path / "run", options, order=name)
    failures = read_lines(outcome.folder / "failures.jsonl")
    assert [line["task_id"] for line in failures] == [17]
    assert outcome.report.requests.answered == 119


def test_lengths_come_from_an_earlier_run(tmp_path):
    """The lengths of a run's answers are found in its journal, in the order of the file."""
    dataset = uneven(tmp_path / "requests.jsonl", 50)
    outcome = run_echo(dataset, tmp_path / "run")
    index = open_dataset(dataset, None, lambda _done, _total: None)
    found = lengths_of_run(outcome.folder, index)
    assert index.lines["output_tokens"].tolist() == found.tolist()


def test_lengths_of_another_dataset_are_refused(tmp_path):
    """A run over another file says nothing of these requests."""
    outcome = run_echo(uneven(tmp_path / "one.jsonl", 20), tmp_path / "run")
    other = write_dataset(tmp_path / "other.jsonl", 20)
    index = open_dataset(other, None, lambda _done, _total: None)
    with pytest.raises(UsageError, match="that run answered another dataset"):
        lengths_of_run(outcome.folder, index)
    with pytest.raises(UsageError, match="it is not the folder of a run"):
        lengths_of_run(tmp_path, index)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"order": "fastest"}, "--order fastest"),
        ({"lengths_from": Path("x"), "order": "file"}, "with --order file"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, changes, said):
    """An unknown order is refused, and lengths that nothing would use."""
    job = echo_job(tmp_path / "requests.jsonl", tmp_path / "run")
    with pytest.raises(UsageError, match=said):
        check(replace(job, **changes))
