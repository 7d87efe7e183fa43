"""The promise of order: one answer for each request, in input order, whatever the schedule."""

from __future__ import annotations

import json
import threading
import time

import pytest
from conftest import expected_lines, read_lines, run_echo, trt_dp, write_dataset

from trt_dp.wire.channel import Channel
from trt_dp.wire.handshake import knock
from trt_dp.wire.messages import ToWorker


@pytest.mark.parametrize(("workers", "capacity", "batch"), [(1, 256, 64), (2, 7, 3), (16, 5, 2)])
def test_same_bytes_whatever_the_workers(tmp_path, workers, capacity, batch) -> None:
    """Results are what echo must answer, byte for byte the same for any number of workers and any batching."""
    dataset = write_dataset(tmp_path / "requests.jsonl", 1000)
    options = {"capacity": str(capacity), "batch": str(batch)}
    outcome = run_echo(dataset, tmp_path / "run", options, workers=workers)
    expected = "".join(
        json.dumps(line, separators=(",", ":")) + "\n" for line in expected_lines(dataset)
    )
    assert expected == (outcome.folder / "results.jsonl").read_text()


def test_slow_first_request_holds_nothing_up(tmp_path, dataset) -> None:
    """A worker that is slow from the first request on leaves the rest of the queue to the other one."""
    options = {"only_worker": "0", "step_seconds": "0.5", "capacity": "4", "batch": "1"}
    outcome = run_echo(dataset, tmp_path / "run", options)
    slow, quick = (worker.requests for worker in outcome.report.workers)
    assert slow + quick == 200
    assert slow < quick / 2
    assert expected_lines(dataset) == read_lines(outcome.folder / "results.jsonl")


def test_timing_and_worker_in_each_line(tmp_path, dataset) -> None:
    """Without --no-timing a line also says which worker answered, and when by its clock."""
    outcome = run_echo(dataset, tmp_path / "run", timing=True)
    for line in read_lines(outcome.folder / "results.jsonl"):
        assert line["worker"] in (0, 1)
        timing = line["timing"]
        assert 0 <= timing["queue_seconds"] <= timing["total_seconds"]
        assert 0 < timing["first_token_seconds"] <= timing["total_seconds"]


def test_missing_task_ids_become_line_positions(tmp_path) -> None:
    """A request without task_id is answered under its position; a string id is kept."""
    dataset = tmp_path / "requests.jsonl"
    dataset.write_text(
        '{"input_ids":[1],"output_tokens":1}\n'
        '{"task_id":"b","logits":[2],"output_tokens":1}\n'
        '{"input_ids":[3],"output_tokens":2}\n'
    )
    outcome = run_echo(dataset, tmp_path / "run")
    lines = read_lines(outcome.folder / "results.jsonl")
    assert [(line["task_id"], line["output_ids"]) for line in lines] == [
        (0, [1]),
        ("b", [2]),
        (2, [3, 3]),
    ]


def test_command_line_runs_and_reports(tmp_path, dataset) -> None:
    """The command leaves a run folder, prints its report to stdout, and keeps stderr for what happens."""
    done = trt_dp(
        "run", "--engine", "echo", "--request_path", dataset, "--n_workers", 2,
        "--output-dir", tmp_path / "run",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Sending requests" in done.stdout
    assert "Sending requests" not in done.stderr
    assert len(read_lines(tmp_path / "run" / "results.jsonl")) == 200
    assert not (tmp_path / "run" / "failures.jsonl").exists()


def test_worker_that_does_not_see_the_file_is_sent_the_lines(
    tmp_path, dataset, monkeypatch
) -> None:
    """Where a worker's machine has no such file, the coordinator ships the bytes and the answers are the same."""
    monkeypatch.setattr("trt_dp.worker.source._open", lambda _source: None)
    outcome = run_echo(dataset, tmp_path / "run", launcher="inline")
    assert expected_lines(dataset) == read_lines(outcome.folder / "results.jsonl")


@pytest.mark.timeout(110)  # less than the 120 s after which a worker that does not connect is ended
def test_a_worker_that_comes_when_all_is_done_is_turned_away(
    tmp_path, dataset, monkeypatch
) -> None:
    """A worker that knocks after the last answer does not keep the run from ending."""

    def late(address: str, key: bytes, **more: object) -> Channel[ToWorker]:
        if threading.current_thread() is not workers.setdefault(0, threading.current_thread()):
            time.sleep(1)
        return knock(address, key, **more)

    workers: dict[int, threading.Thread] = {}
    monkeypatch.setattr("trt_dp.worker.serve.knock", late)
    outcome = run_echo(dataset, tmp_path / "run", launcher="inline")
    assert [worker.requests for worker in outcome.report.workers].count(0) == 1
