"""Runs with fewer workers than were asked for: allowed with --allow-fewer-workers only, and announced."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import read_lines, trt_dp, write_dataset

from trt_dp.coordinator import run as coordinator
from trt_dp.coordinator.job import Job, Silent
from trt_dp.coordinator.workers.crew import Crew
from trt_dp.coordinator.workers.limits import Limits
from trt_dp.coordinator.workers.refusals import Refusals
from trt_dp.errors import EngineRefused, PlacementError
from trt_dp.system.machine import Machine
from trt_dp.types import EngineSpec
from trt_dp.wire.messages import Refused

ALLOWED = "--allow-fewer-workers"
APART = {"elsewhere": False, "together": False}
TOGETHER = {"elsewhere": False, "together": True}


def run(tmp_path: Path, engine: str, stand_ins: dict[str, str], *options: str):
    """A run of three workers; what it said, and its report if it wrote one."""
    (tmp_path / "meet").mkdir()
    dataset = write_dataset(tmp_path / "requests.jsonl", 120)
    folder = tmp_path / "run"
    done = trt_dp(
        *("run", dataset, "--engine", engine, "--engine-path", tmp_path / "meet", "--n-workers", 3),
        *("--output", folder, *options),
        env=stand_ins,
    )
    report = folder / "report.json"
    return done, json.loads(report.read_text()) if report.exists() else {}


def test_workers_in_lock_step_start_again_without_one_that_cannot_load(tmp_path, stand_ins):
    """Its refusal and how many are left are said; the other two are ranks 0 and 1 of a smaller group."""
    done, report = run(tmp_path, "ranks", stand_ins, "--set", "refuse=0", ALLOWED)
    assert done.returncode == 0, done.stderr
    assert "worker 0 died: the engine would not load: no memory is left." in done.stderr
    assert "2 of 3 workers are left" in done.stderr
    assert len(read_lines(tmp_path / "run" / "results.jsonl")) == 120
    assert report["workers"][0]["requests"] == 0
    last = max((tmp_path / "meet").iterdir(), key=lambda each: each.stat().st_mtime)
    assert {each.name for each in last.iterdir()} == {"0", "1"}


def test_workers_in_lock_step_start_again_without_one_that_dies_as_it_loads(tmp_path, stand_ins):
    """After two deaths while it loads, it is left out; the others answer everything."""
    done, report = run(tmp_path, "ranks", stand_ins, "--set", "dies=1", ALLOWED)
    assert done.returncode == 0, done.stderr
    assert "2 of 3 workers are left" in done.stderr
    assert [worker["deaths"] for worker in report["workers"]] == [2, 2, 2]
    assert len(read_lines(tmp_path / "run" / "results.jsonl")) == 120


def test_what_every_worker_in_lock_step_refuses_ends_the_run(tmp_path, stand_ins):
    """A second one that refuses for the same reason shows that it is not the place."""
    done, _ = run(tmp_path, "ranks", stand_ins, "--set", "alike=true", ALLOWED)
    assert done.returncode == 1
    assert "trt-dp: no memory is left" in done.stderr


def test_engines_on_their_own_run_without_one_that_cannot_load(tmp_path, stand_ins):
    """Its death is said, then how many are left; it is not started again, and the run ends well."""
    done, report = run(tmp_path, "picky", stand_ins, "--set", "refuse=2", ALLOWED)
    assert done.returncode == 0, done.stderr
    death, left = (done.stderr.index(said) for said in ("worker 2 died", "2 of 3 workers are left"))
    assert death < left
    assert report["requests"]["answered"] == 120


def test_fewer_than_min_workers_end_the_run(tmp_path, stand_ins):
    """The run stops, and says how it is resumed."""
    least = ("--min-workers", "3")
    done, _ = run(tmp_path, "picky", stand_ins, "--set", "refuse=2", ALLOWED, *least)
    assert done.returncode == 1
    assert "2 of 3 workers are left, and --min-workers asks for more" in done.stderr
    assert "To resume, repeat the command" in done.stderr


def test_when_no_worker_can_load_the_run_ends_in_the_words_of_the_last():
    """Two of three may refuse; the third is the end."""
    crew = Crew(3)
    refusals = Refusals(crew, allow_fewer=True)
    assert all(refusals.is_final(n, Refused(f"no {n}", usage=False), **APART) for n in (0, 1))
    assert crew.left == 1
    with pytest.raises(EngineRefused, match="no 2"):
        refusals.is_final(2, Refused("no 2", usage=False), **APART)


def test_how_many_are_left_is_said_after_the_death():
    """Of two that are given up, each counts once it is dead, and is told of once."""
    crew = Crew(3)
    crew.give_up(2)
    assert (crew.left, crew.remaining, crew.fewer()) == (2, 3, "")
    crew.lose(2, retired=True)
    assert crew.fewer() == "2 of 3 workers are left"
    crew.lose(1, retired=False)
    assert crew.fewer() == ""


def test_the_same_reason_from_two_that_start_in_turn_is_no_place_of_its_own():
    """In lock step the same sentence from a second worker ends the run; another sentence does not."""
    refusals = Refusals(Crew(4), allow_fewer=True)
    assert refusals.is_final(1, Refused("no memory", usage=False), **TOGETHER)
    assert refusals.is_final(0, Refused("a broken device", usage=False), **TOGETHER)
    with pytest.raises(EngineRefused, match="no memory"):
        refusals.is_final(2, Refused("no memory", usage=False), **TOGETHER)


def test_workers_that_do_not_fit_are_left_out(tmp_path, monkeypatch):
    """Four workers on two GPUs are two, if that is allowed."""
    machine = Machine(gpus=("0", "1"), cores=(0, 1))
    monkeypatch.setattr("trt_dp.coordinator.places.look", lambda: machine)
    job = Job(tmp_path, tmp_path, EngineSpec("echo"), workers=4, limits=Limits(allow_fewer=True))
    assert len(coordinator._places_here(job, Silent())) == 2
    with pytest.raises(PlacementError, match="4 workers with 1 GPU each need 4 GPUs"):
        coordinator._places_here(Job(tmp_path, tmp_path, EngineSpec("echo"), workers=4), Silent())
