"""Workers that start while the dataset is still being checked."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

import trt_dp
from trt_dp.coordinator import boarding
from trt_dp.dataset import scan
from trt_dp.errors import DatasetError, EngineRefused

_PATIENCE = 60.0


@pytest.fixture(autouse=True)
def _every_input_is_large(monkeypatch) -> None:
    monkeypatch.setattr(boarding, "_MUCH", 0)


@pytest.fixture
def dataset(tmp_path):
    path = tmp_path / "requests.jsonl"
    rows = [{"task_id": i, "input_ids": [i + 1, 2, 3], "output_tokens": 3} for i in range(40)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(dataset, folder, **settings):
    return trt_dp.run(dataset, engine="echo", workers=2, output=folder, **settings)


def stretched(monkeypatch, until) -> None:
    """Let the progress of the check be told again and again until this is so, as that of a large file is."""
    watched = boarding.watched

    def often(display, begun):
        told = watched(display, begun)

        def progress(done, total) -> None:
            end = time.monotonic() + _PATIENCE
            while not until() and time.monotonic() < end:
                told(done, total)
                time.sleep(0.01)

        return progress

    monkeypatch.setattr("trt_dp.coordinator.run.watched", often)


def test_engines_load_while_the_dataset_is_checked(tmp_path, dataset, monkeypatch) -> None:
    """An engine begins to load before the check ends, and every request is answered as without that."""
    log, seen = tmp_path / "early/logs/worker-0.log", []

    def loading() -> bool:
        seen.append(b"loading echo" in log.read_bytes())
        return seen[-1]

    stretched(monkeypatch, loading)
    early = run(dataset, tmp_path / "early", timing=False)
    assert seen[-1]
    monkeypatch.setattr(boarding, "_MUCH", 1 << 40)
    late = run(dataset, tmp_path / "late", timing=False)
    assert early.results.read_bytes() == late.results.read_bytes()
    told = (tmp_path / "early/events.jsonl").read_text().splitlines()
    states = [event["state"] for event in map(json.loads, told) if event["event"] == "worker"]
    assert sorted(set(states)) == ["loading", "ready", "starting"]


def test_an_invalid_row_ends_the_workers_and_leaves_no_folder(tmp_path, dataset) -> None:
    """Rows are refused as ever; workers that were on their way are ended, and nothing is left."""
    with dataset.open("a") as file:
        file.write("{nonsense\n")
    with pytest.raises(DatasetError, match="line 41"):
        run(dataset, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_engine_that_refuses_ends_the_check(tmp_path, dataset, monkeypatch) -> None:
    """What an engine says when it cannot load is told at once, and the folder is free."""
    stretched(monkeypatch, lambda: False)
    with pytest.raises(EngineRefused, match="no memory"):
        run(dataset, tmp_path / "run", options={"refuse": "no memory"})
    assert not (tmp_path / "run").exists()


def test_a_folder_with_a_run_is_not_touched_before_the_check(
    tmp_path, dataset, monkeypatch
) -> None:
    """A second sitting starts its workers after the check, and gives the same results."""
    first = run(dataset, tmp_path / "run")
    before = first.results.read_bytes()
    (tmp_path / "run" / "results.jsonl").unlink()
    started = []
    monkeypatch.setattr(boarding.Boarding, "start", lambda *_: started.append(1))
    assert run(dataset, tmp_path / "run").results.read_bytes() == before
    assert not started


def test_a_worker_that_dies_meanwhile_is_started_again(tmp_path, dataset, monkeypatch) -> None:
    """A worker killed while the dataset is checked counts as a death, and all requests are answered."""
    killed: list[int] = []

    def killed_one() -> bool:
        if not killed:
            killed.extend(_workers_of(os.getpid())[:1])
            for pid in killed:
                os.kill(pid, signal.SIGKILL)
        return bool(killed)

    stretched(monkeypatch, killed_one)
    outcome = run(dataset, tmp_path / "run")
    assert killed
    assert outcome.report.requests.answered == 40
    assert sum(worker.deaths for worker in outcome.report.workers) == 1


def _workers_of(pid: int) -> list[int]:
    psutil = pytest.importorskip("psutil")
    found = psutil.Process(pid).children(recursive=True)
    return [child.pid for child in found if "trt_dp.worker" in child.cmdline()]


def test_helpers_end_before_the_check_does(tmp_path, dataset, capfd, monkeypatch) -> None:
    """Where a check is stopped, its helpers have ended before their files are removed."""
    monkeypatch.setattr(scan, "SLICE", 256)

    def stop(*_: int) -> None:
        msg = "enough"
        raise EngineRefused(msg)

    monkeypatch.setattr("trt_dp.coordinator.run.watched", lambda *_: stop)
    with pytest.raises(EngineRefused, match="enough"):
        run(dataset, tmp_path / "run")
    assert "Traceback" not in capfd.readouterr().err
