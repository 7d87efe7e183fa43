"""events.jsonl and status.json: what happened, what is left after a crash, and what belongs to which sitting."""

from __future__ import annotations

import json
import signal
import time
from itertools import pairwise

import pytest
from conftest import Watcher, echo_job, run_echo, start_trt_dp, wait_until, write_dataset

from trt_dp.coordinator.record.event_log import EventLog, read_events, read_status, sittings
from trt_dp.coordinator.run import run


def test_a_run_is_told_from_start_to_end(tmp_path, dataset):
    """A sitting, the states of each worker, its end; and a status that says that it is finished."""
    folder = run_echo(dataset, tmp_path / "run").folder
    events = list(read_events(folder / "events.jsonl"))
    assert events[0]["event"] == "sitting"
    assert events[-1] | {"at_seconds": 0} == {
        "event": "end", "at_seconds": 0, "outcome": "finished", "completed": 200,
    }  # fmt: skip
    status = read_status(folder)
    worker = max(status.lanes, key=lambda lane: lane.requests).worker  # the other may come too late
    states = [e["state"] for e in events if e["event"] == "worker" and e["worker"] == worker]
    assert states == ["starting", "loading", "ready"]
    assert all(a["at_seconds"] <= b["at_seconds"] for a, b in pairwise(events))
    assert (status.ended, status.completed, status.requests) == ("finished", 200, 200)
    assert sum(lane.requests for lane in status.lanes) == 200


def test_deaths_are_events(tmp_path, dataset):
    """A death has its worker, its reason and what was in flight; then the worker starts again."""
    folder = run_echo(dataset, tmp_path / "run", {"crash": "40", "capacity": "8"}).folder
    events = list(read_events(folder / "events.jsonl"))
    deaths = [event for event in events if event["event"] == "death"]
    assert deaths
    assert all(d["reason"] == "it was killed by SIGKILL" and d["requests"] > 0 for d in deaths)
    assert any(event["event"] == "remark" for event in events)


def test_nothing_is_written_per_request(tmp_path):
    """Ten times as many requests make no more lines."""
    lines = []
    for count in (300, 3000):
        dataset = write_dataset(tmp_path / f"{count}.jsonl", count)
        folder = run_echo(dataset, tmp_path / f"run-{count}").folder
        lines.append(len((folder / "events.jsonl").read_text().splitlines()))
    assert lines[1] <= lines[0] + 2


def test_sittings_of_a_resumed_run_are_told_apart(tmp_path, dataset):
    """A killed sitting has what it completed, up to the last answer; the report has both."""
    folder = tmp_path / "run"
    words = ["--engine", "echo", "--request-path", dataset, "--output", folder, "--n-workers", "2",
             "--set", "step_seconds=0.05", "--set", "batch=2", "--set", "capacity=8", "--no-timing"]  # fmt: skip
    process = start_trt_dp("run", *words)
    wait_until(lambda: (folder / "journal").exists() and (folder / "journal").stat().st_size > 2000)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    time.sleep(1)
    done = start_trt_dp("run", *words)
    done.communicate()
    report = json.loads((folder / "report.json").read_text())
    first, second = report["sittings"]
    assert first["ended"] == "killed"
    assert second["ended"] == "finished"
    assert first["completed"] + second["completed"] == 200
    assert second["completed"] == report["requests"]["answered_now"]
    assert first["completed"] > 0
    assert "Sessions of this run" in (folder / "report.html").read_text()
    assert report["ledger"]["errors"] == []


def test_a_line_that_was_cut_off_is_passed_over(tmp_path):
    """What a crash left of a line swallows neither the line before it nor the next."""
    (tmp_path / "events.jsonl").write_text('{"event": "sitting"}\n{"event": "wor')
    log = EventLog(tmp_path, 0.0)
    log.write("end", outcome="finished")
    log.close()
    assert [e["event"] for e in read_events(tmp_path / "events.jsonl")] == ["sitting", "end"]


@pytest.mark.parametrize(
    "line", ["[1]", "null", '{"event": 3}', "\x00\xff", '{"event":"sitting","completed":"x"}']
)
def test_a_log_full_of_nonsense_breaks_nothing(tmp_path, line):
    """What somebody else wrote there is passed over or shown as it is."""
    (tmp_path / "events.jsonl").write_text(line + "\n")
    assert len(sittings(read_events(tmp_path / "events.jsonl"), 3)) <= 1


def test_a_run_goes_on_without_its_log(tmp_path, dataset):
    """Where events.jsonl cannot be written the run is finished, and one sentence says so."""
    (tmp_path / "run" / "events.jsonl").mkdir(parents=True)
    watcher = Watcher()
    outcome = run(echo_job(dataset, tmp_path / "run"), watcher)
    assert outcome.report.requests.answered == 200
    assert any("events.jsonl and status.json stop here" in text for text in watcher.said)
