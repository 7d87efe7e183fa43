"""The promise under faults: fixed plans with each kind of them; `scripts/chaos` draws others without end."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from conftest import trt_dp, write_dataset
from havoc import verdict, world
from havoc.plan import CLOSE, ONCE, POISON, STRIKES, Misdeed, Plan, Strike, draw
from havoc.sitting import Ended, Struck
from havoc.trial import Trial, undergo

from trt_dp.coordinator.record.journal import Journal
from trt_dp.types import RECORD

pytestmark = pytest.mark.long

QUICK = {"inner": "echo", "capacity": "8", "batch": "4", "step_seconds": "0.004"}
STUCK = ("hang", "noise", "half_and_stall", "mute")
ENDING = ("kill_coordinator", "interrupt", "terminate", "interrupt_twice", "alter_dataset")
GOING_ON = tuple(sorted(set(STRIKES) - set(ENDING) - {"truncate_dataset"}))


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> list[bytes]:
    """The answers of a run to which nothing is done."""
    return world.clean_results(tmp_path_factory.mktemp("clean"), "echo", 1000)


def _undergo(tmp_path: Path, clean: list[bytes], **more) -> Trial:
    plan = Plan(**{"seed": 1, "inner": "echo", "requests": 600, "workers": 2, **more})
    return undergo(tmp_path / "world", plan, clean, None)


def test_workers_that_die_or_lie_once(tmp_path, clean) -> None:
    """Every way in which a worker can end or lie costs no request and makes no answer wrong."""
    kinds = [kind for kind in ONCE if kind not in STUCK]
    once = tuple(Misdeed(kind, 20 + 30 * place) for place, kind in enumerate(kinds))
    trial = _undergo(tmp_path, clean, settings=QUICK, once=once, workers=3)
    assert trial.verdict == type(trial.verdict)()
    assert set(kinds) <= set(trial.faults)


def test_workers_that_fall_silent(tmp_path, clean) -> None:
    """Silence is noticed, also that of a worker whose bytes never become a message."""
    once = tuple(Misdeed(kind, 100 * place) for place, kind in enumerate(STUCK, 1))
    trial = _undergo(tmp_path, clean, settings=QUICK, once=once, stall_seconds=1.5, workers=3)
    assert trial.verdict == type(trial.verdict)()
    assert set(STUCK) <= set(trial.faults)
    reasons = [death["reason"] for death in trial.report["deaths"]]
    assert sum("was silent" in reason for reason in reasons) == len(STUCK) - 1
    assert sum("--answer-seconds" in reason for reason in reasons) == 1


def test_poison_fails_alone_with_its_reason(tmp_path, clean) -> None:
    """Requests that kill whatever runs them fail, each with the true reason, and no other fails."""
    kinds = [kind for kind in POISON if kind not in ("hang", "mute", "abort")]
    poison = tuple(Misdeed(kind, 90 * place) for place, kind in enumerate(kinds, 1))
    trial = _undergo(tmp_path, clean, settings=QUICK, poison=poison, workers=3)
    assert trial.verdict == type(trial.verdict)()
    assert trial.report["requests"]["failed"] == len(kinds)


def test_strikes_from_outside(tmp_path, clean) -> None:
    """Workers, their children and their guard killed, stopped for long or short, a rival, a dataset deleted."""
    strikes = tuple(Strike(kind, place / 12, 0.0, place) for place, kind in enumerate(GOING_ON))
    settings = {**QUICK, "step_seconds": "0.02"}
    trial = _undergo(
        tmp_path, clean, settings=settings, strikes=strikes, stall_seconds=1.0, workers=3
    )
    assert trial.verdict == type(trial.verdict)()
    assert len(trial.faults) > len(GOING_ON) / 2


@pytest.mark.parametrize("seed", [1, 2])
def test_sittings_that_end_early(tmp_path, clean, seed) -> None:
    """Killed, stopped and refused sittings are gone on with, also over a torn journal, to the same answers."""
    kinds = ("kill_coordinator", *(*ENDING[1:], "truncate_dataset")[seed % 2 :: 2])
    strikes = tuple(Strike(kind, 0.2 * place, 0.0, 7) for place, kind in enumerate(kinds, 1))
    settings = {**QUICK, "step_seconds": "0.01", "close": CLOSE[seed], "refuse_at": "3"}
    trial = _undergo(
        tmp_path, clean, seed=seed, settings=settings, strikes=strikes, clock=True, requests=800
    )
    assert trial.verdict == type(trial.verdict)()
    assert trial.sittings > 2


def test_disks_and_limits_that_are_too_small(tmp_path, clean) -> None:
    """A full disk, a file or folder that takes nothing more, too few descriptors: one sentence, and then it goes on."""
    conditions = ("file=0.3", "disk=0.6", "readonly", "disk=1.05", "nofile=14")
    trial = _undergo(tmp_path, clean, settings=QUICK, conditions=conditions)
    assert trial.verdict == type(trial.verdict)()
    assert trial.sittings >= (5 if os.geteuid() == 0 else 2)


def test_a_real_model_under_faults(tmp_path) -> None:
    """The CPU engine gives the same bytes when its workers are killed, stopped and break."""
    pytest.importorskip("openvino_genai")
    clean = world.clean_results(tmp_path, "cpu", 60)
    settings = {"inner": "cpu", "capacity": "8"}
    plan = Plan(
        1,
        "cpu",
        60,
        2,
        settings,
        (Strike("kill_worker", 0.1), Strike("kill_rank", 0.5)),
        (Misdeed("segfault", 20), Misdeed("twice", 40)),
    )
    trial = undergo(tmp_path / "world", plan, clean, world.demo(tmp_path))
    assert trial.verdict == type(trial.verdict)()
    assert len(trial.faults) >= 3


def test_a_dataset_altered_between_sittings_is_refused(tmp_path) -> None:
    """A resume over another dataset ends with status 2, which the judge accepts only if the dataset was altered."""
    plan = Plan(1, "echo", 40, 1, QUICK)
    place = world.World(tmp_path / "world", plan, None)
    assert _sit(place).returncode == 0
    place.dataset.write_bytes(place.dataset.read_bytes().replace(b"[1", b"[2", 1))
    refused = _sit(place)
    assert refused.returncode == 2
    ended = Ended(2, refused.stderr, "", (Struck("alter_dataset", 0.0),))
    assert list(verdict.wrong_in(place, ended)) == []
    untouched = Ended(2, refused.stderr, "", ())
    assert len(list(verdict.wrong_in(place, untouched))) == 1


def _sit(place: world.World) -> subprocess.CompletedProcess[str]:
    environment = place.environment("")
    return subprocess.run(
        place.command, env=environment, capture_output=True, text=True, check=False, timeout=60
    )


def test_workers_that_never_connect(tmp_path, clean) -> None:
    """A worker that never connects is started again after the start limit, and the run completes."""
    trial = _undergo(tmp_path, clean, settings=QUICK, absent=(1,), workers=1, start_seconds=3.0)
    assert trial.verdict == type(trial.verdict)()
    assert "did not connect within 3 s" in trial.report["deaths"][0]["reason"]


@pytest.mark.skipif(not world.has_mpi(), reason="no mpirun, or no mpi4py")
def test_mpi_workers_under_faults(tmp_path, clean) -> None:
    """Workers that mpirun started are killed, with mpirun or without, and no request is lost."""
    strikes = (Strike("kill_worker", 0.1), Strike("kill_rank", 0.4), Strike("kill_guard", 0.7))
    once = (Misdeed("segfault", 300),)
    settings = {**QUICK, "step_seconds": "0.02"}
    trial = _undergo(tmp_path, clean, settings=settings, strikes=strikes, once=once, launcher="mpi")
    assert trial.verdict == type(trial.verdict)()
    assert trial.faults["mpi"] == 1
    assert len(trial.faults) >= 4


def test_plans_are_drawn_from_their_seed_alone() -> None:
    """The same seed draws the same plan, and many seeds draw every kind of fault."""
    drawn = [draw(seed) for seed in range(400)]
    assert drawn == [draw(seed) for seed in range(400)]
    assert {strike.kind for plan in drawn for strike in plan.strikes} == set(STRIKES)
    assert {misdeed.kind for plan in drawn for misdeed in plan.once} == set(ONCE)
    assert {misdeed.kind for plan in drawn for misdeed in plan.poison} == set(POISON)
    assert {plan.settings.get("close", CLOSE[0]) for plan in drawn} == set(CLOSE)
    assert max(plan.workers for plan in drawn) == 64
    assert all(plan.faults for plan in drawn)
    assert {plan.launcher for plan in drawn} == {"local", "mpi"}
    assert any(plan.absent for plan in drawn)


def test_a_journal_cut_at_every_byte(tmp_path) -> None:
    """Wherever the last KiB of a journal is cut, the whole blocks before the cut are kept, and nothing else."""
    path = tmp_path / "journal"
    ends = _write_journal(path, blocks=30)
    whole = path.read_bytes()
    for cut in range(len(whole) - 1024, len(whole)):
        path.write_bytes(whole[:cut])
        journal = Journal(path, 150)
        kept = sum(end <= cut for end in ends)
        assert journal.completed.nonzero()[0].tolist() == list(range(kept * 5))
        assert journal.line(kept * 5 - 1) == b'{"line":%d}\n' % (kept * 5 - 1)
        journal.close()
        assert path.read_bytes() == whole[: ends[kept - 1]]


def _write_journal(path: Path, blocks: int) -> list[int]:
    """Blocks of five lines each; gives where each ends."""
    import numpy as np

    journal, ends = Journal(path, blocks * 5), []
    for block in range(blocks):
        lines = [b'{"line":%d}\n' % index for index in range(block * 5, block * 5 + 5)]
        records = np.zeros(5, RECORD)
        records["index"] = np.arange(block * 5, block * 5 + 5)
        records["length"] = [len(line) for line in lines]
        journal.append(records, b"".join(lines))
        ends.append(path.stat().st_size)
    journal.close()
    return ends


def test_an_engine_that_will_not_load_again(tmp_path, clean) -> None:
    """An engine that loaded and then refuses to once costs its worker a death more, and does not end the run."""
    once = (Misdeed("killed", 100),)
    settings = {
        **QUICK,
        "refuse_at": "3",
        "step_seconds": "0.02",
    }  # so that there is time to load again
    trial = _undergo(tmp_path, clean, settings=settings, once=once)
    assert trial.verdict == type(trial.verdict)()
    assert trial.sittings == 1
    reasons = [death["reason"] for death in trial.report["deaths"]]
    assert any("would not load: the engine was told to refuse" in why for why in reasons), reasons


def test_guards_killed_and_then_the_coordinator(tmp_path, clean) -> None:
    """A guard that is killed takes its worker along, and a coordinator that is killed leaves no stuck worker."""
    strikes = (
        Strike("kill_guard", 0.1),
        Strike("kill_guard", 0.2, 0.0, 1),
        Strike("kill_coordinator", 0.2, 2.0),  # when both workers hang, whatever the order
    )
    once = (Misdeed("hang", 400), Misdeed("hang", 420))
    settings = {**QUICK, "step_seconds": "0.03"}
    trial = _undergo(
        tmp_path, clean, settings=settings, strikes=strikes, once=once, stall_seconds=6.0
    )
    assert trial.verdict == type(trial.verdict)()
    assert trial.faults["kill_coordinator"] == 1
    assert trial.faults["hang"] == 2


def test_a_report_that_the_disk_does_not_take(tmp_path) -> None:
    """A disk that is full when a run begins is the environment's failure: status 1, and no half file."""
    dataset, folder = write_dataset(tmp_path / "requests.jsonl", 20), tmp_path / "run"
    env = {"PYTHONPATH": str(world.SITE), "HAVOC_LIMITS": "fsize=100"}
    done = trt_dp(
        "run", "--engine", "echo", "--request-path", dataset, "--output-dir", folder, env=env
    )
    assert done.returncode == 1
    assert "File too large" in done.stderr
    assert not list(folder.rglob("*.partial"))


def test_an_index_that_a_kill_left_half_written_is_replaced(tmp_path) -> None:
    """What a killed run left of an index disappears with the next run."""
    dataset = write_dataset(tmp_path / "requests.jsonl", 20)
    left = tmp_path / "run" / "index.npz"
    left.parent.mkdir()
    left = left.with_name(f".{left.name}.partial")
    left.write_bytes(b"half")
    done = trt_dp(
        "run", "--engine", "echo", "--request-path", dataset, "--output-dir", tmp_path / "run"
    )
    assert done.returncode == 0
    assert not left.exists()
    assert (tmp_path / "run" / "index.npz").is_file()
