"""A run with a hostile worker, or with strangers at its door, gives the results of any other run."""

from __future__ import annotations

import contextlib
import resource
import threading
from pathlib import Path

import hostile
import pytest
from conftest import Watcher, echo_job, expected_lines, read_lines, write_dataset

from trt_dp.coordinator import run as runner
from trt_dp.coordinator.workers.limits import Limits
from trt_dp.launchers import local


class Sitting:
    """A run of an honest worker 0 beside a worker 1 that does these harms."""

    def __init__(self, tmp_path, monkeypatch, harms, requests=400):
        self.launcher = hostile.HostileLauncher(harms)
        monkeypatch.setattr(local, "LocalLauncher", lambda: self.launcher)
        self.dataset = write_dataset(tmp_path / "requests.jsonl", requests)
        self.folder = tmp_path / "run"
        self.answer_seconds = 60.0
        self.watcher = Watcher(self._act)
        self.strangers: list[threading.Thread] = []

    def send(self, *strangers):
        """These come to the door once a worker is ready, one after the other."""

        def come():
            for stranger in strangers:
                with contextlib.suppress(OSError):  # the run is over, and the door shut
                    stranger(self.launcher.address)

        self.strangers.append(threading.Thread(target=come))

    def run(self):
        """To its end: every request is answered, and answered right."""
        limits = Limits(max_restarts=100, answer_seconds=self.answer_seconds)
        options = {"step_seconds": "0.05", "batch": "4", "only_worker": "0"}
        outcome = runner.run(
            echo_job(self.dataset, self.folder, options, limits=limits), self.watcher
        )
        for stranger in self.strangers:
            if stranger.ident:
                stranger.join()
        assert read_lines(self.folder / "results.jsonl") == expected_lines(self.dataset)
        assert not (self.folder / "failures.jsonl").exists()
        return outcome

    def _act(self, snapshot):
        for stranger in self.strangers:
            if snapshot.ready and not stranger.ident:
                stranger.start()


NAMES = list(hostile.HARMS)
SLOW = [name for name in NAMES if "without end" in name or "slowly" in name]


@pytest.mark.parametrize("part", [0, 1])
def test_a_worker_that_lies_is_ended_and_costs_no_answer(tmp_path, monkeypatch, part):
    """Whatever a worker that knows the key says, no answer of it is kept, and every request gets its right one."""
    chosen = [name for name in NAMES if name not in SLOW][part::2]
    sitting = Sitting(tmp_path, monkeypatch, [hostile.HARMS[name] for name in chosen])
    outcome = sitting.run()
    assert sitting.launcher.left == []
    assert outcome.report.workers[1].deaths == len(chosen)
    assert not any("\x1b" in said and len(said) > 5000 for said in sitting.watcher.said)


def test_a_worker_that_only_keeps_busy_is_ended(tmp_path, monkeypatch):
    """Beats and facts without end, or a message that never ends, are no answers: after a while it is too late."""
    sitting = Sitting(tmp_path, monkeypatch, [hostile.HARMS[name] for name in SLOW], 200)
    sitting.answer_seconds = 1.0
    sitting.run()
    assert sitting.launcher.left == []
    ended = [said for said in sitting.watcher.said if "--answer-seconds" in said]
    assert sum(said.startswith("worker 1 ") for said in ended) >= len(SLOW)


def test_strangers_at_the_door_cost_no_answer(tmp_path, monkeypatch):
    """Silence, noise, half-open and reflected handshakes and crowds end no worker and no run."""
    sitting = Sitting(tmp_path, monkeypatch, [])
    sitting.send(*hostile.STRANGERS.values())
    outcome = sitting.run()
    assert sum(worker.deaths for worker in outcome.report.workers) == 0


def test_a_crowd_does_not_take_the_descriptors_of_the_run(tmp_path, monkeypatch):
    """With few descriptors, a crowd at the door keeps neither workers from starting nor results from being written."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    sitting = Sitting(tmp_path, monkeypatch, [hostile.HARMS["no msgpack"]] * 5, 100)
    kept = []
    sitting.send(lambda address: kept.extend(hostile.connect(address) for _ in range(60)))
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) + 100, before[1])
    )
    try:
        sitting.run()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        hostile.close(kept)
