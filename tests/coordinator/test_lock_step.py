"""Workers that step together: an idle one is stepped too, and the death of one is the death of all."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import numpy as np
import pytest
from conftest import read_lines, trt_dp_here, write_dataset

from trt_dp.coordinator.abilities import check_apart
from trt_dp.coordinator.job import Job
from trt_dp.coordinator.queue.dispatcher import Dispatcher
from trt_dp.coordinator.workers.meeting import Meeting
from trt_dp.engines.about import Group
from trt_dp.errors import UsageError
from trt_dp.types import EngineSpec


def run(tmp_path: Path, stand_ins: dict[str, str], count: int, *options: str):
    """A run of three workers that step together; what it said, its folder and its report."""
    dataset = write_dataset(tmp_path / "requests.jsonl", count)
    meet, folder = tmp_path / "meet", tmp_path / "run"
    meet.mkdir()
    done = trt_dp_here(
        *("run", dataset, "--engine", "ranks", "--engine-path", meet, "--n-workers", 3),
        *("--set", "poison=-1", "--no-timing", "--output", folder, *options),
        env=stand_ins,
    )
    report = folder / "report.json"
    return done, folder, json.loads(report.read_text()) if report.exists() else {}


def test_a_worker_with_nothing_to_do_is_stepped_with_the_others(tmp_path, stand_ins):
    """One request in one of three workers is answered, which takes the steps of all three."""
    done, folder, _ = run(tmp_path, stand_ins, 1)
    assert done.returncode == 0, done.stderr
    assert len(read_lines(folder / "results.jsonl")) == 1


def test_when_one_dies_all_are_restarted_and_nothing_is_lost(tmp_path, stand_ins):
    """After a SIGKILL in one worker all three start again, at another meeting place, and every request is answered."""
    done, folder, report = run(tmp_path, stand_ins, 200, "--set", "poison=77", "--set", "once=true")
    assert done.returncode == 0, done.stderr
    assert len(read_lines(folder / "results.jsonl")) == 200
    assert [worker["deaths"] for worker in report["workers"]] == [1, 1, 1]
    assert len([one for one in (tmp_path / "meet").iterdir() if one.is_dir()]) == 2
    assert "a worker in lock step with it died" in done.stderr
    assert report["ledger"]["errors"] == []


def test_a_request_that_kills_its_rank_is_found_and_given_up(tmp_path, stand_ins):
    """Only the request that kills fails; the others are answered, however often all had to start again."""
    done, folder, report = run(tmp_path, stand_ins, 60, "--set", "poison=7")
    assert done.returncode == 3, done.stderr
    assert [one["task_id"] for one in read_lines(folder / "failures.jsonl")] == [7]
    assert len(read_lines(folder / "results.jsonl")) == 59
    assert report["ledger"]["errors"] == []


def test_what_an_innocent_worker_had_is_no_suspect():
    """It goes next, beside other requests; what the dead worker had are suspects."""
    dispatcher = Dispatcher(np.arange(40), 2)
    first, other = dispatcher.take(0, 4).tolist(), dispatcher.take(1, 4).tolist()
    dispatcher.finish(0, first[:1])
    assert dispatcher.lose(0) == []
    assert dispatcher.lose(1, innocent=True) == []
    assert set(other) <= set(dispatcher.take(0, 8).tolist())
    assert all(dispatcher.deaths_of(index) == 0 for index in other)
    assert all(dispatcher.deaths_of(index) == 1 for index in first[1:])


def test_a_suspect_in_an_innocent_worker_is_as_suspect_as_before():
    """However often its worker dies of another's, a request that runs apart is never given up for it."""
    dispatcher = Dispatcher(np.arange(2), 2, proven=True)
    for worker in (0, 1):
        assert len(dispatcher.take(worker, 2)) == 1
        dispatcher.lose(worker)
    alone = [dispatcher.take(worker, 2).tolist() for worker in (0, 1)]
    assert sorted(alone) == [[0], [1]]
    before = dispatcher.deaths_of(alone[1][0])
    for _ in range(5):
        assert dispatcher.lose(1, innocent=True) == []
        assert dispatcher.take(1, 2).tolist() == alone[1]
    assert dispatcher.deaths_of(alone[1][0]) == before


def test_a_port_that_another_process_uses_is_refused_at_once():
    """The sentence names the option; ranks would wait for each other for ever."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UsageError, match=f"dp_master_port={port}: another process uses"):
            Meeting(object, Group(2, "127.0.0.1", port))
    Meeting(object, Group(2, "127.0.0.1", port))


@pytest.mark.parametrize("stays", [False, True])
def test_each_common_start_has_a_port_of_its_own_unless_one_was_given(stays):
    """A free port is looked for each time, the user's own is kept; those that are left have the first ranks."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1] if stays else 0

    class Named:
        @staticmethod
        def rank_environment(group: Group, rank: int) -> dict[str, str]:
            return {"PORT": str(group.port), "RANK": str(rank)}

    meeting = Meeting(Named, Group(2, "127.0.0.1", port))
    before = meeting.environment(1)
    meeting.again((0, 1))
    assert before["RANK"] == "1"
    assert (meeting.environment(1) == before) is stays
    meeting.again((1, 2))
    assert [meeting.environment(worker)["RANK"] for worker in (1, 2)] == ["0", "1"]
    meeting.again((2,))
    assert meeting.environment(2) == {}


def test_workers_of_several_machines_cannot_step_together(tmp_path):
    """Hosts come and go, so such a run is refused before any host is asked to join."""
    job = Job(tmp_path, tmp_path / "run", EngineSpec("vllm", None, {"lockstep": "true"}))
    with pytest.raises(UsageError, match="works on one machine only"):
        check_apart(job)
    check_apart(Job(tmp_path, tmp_path / "run", EngineSpec("vllm", None, {"window": "4"})))
