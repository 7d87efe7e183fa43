"""The promise of survival: whatever dies, hangs or refuses, every request ends once, and no process is left."""

from __future__ import annotations

import os
import random
import signal
import time

import psutil
import pytest
from conftest import (
    Watcher,
    alive,
    children,
    echo_job,
    expected_lines,
    read_lines,
    run_echo,
    start_trt_dp,
    wait_until,
    workers_of,
    write_dataset,
)

from trt_dp.coordinator.run import run
from trt_dp.coordinator.workers.limits import Limits
from trt_dp.errors import EngineRefused, NoWorkersLeft, UsageError


def test_killed_workers_lose_nothing(tmp_path) -> None:
    """Workers killed with SIGKILL again and again: the results are those of a run in which nobody died."""
    dataset = write_dataset(tmp_path / "requests.jsonl", 3000)
    chance = random.Random(7)
    killed = []

    def kill_one(snapshot) -> None:
        workers = workers_of(os.getpid())
        if len(killed) < 6 and workers and snapshot.completed > 300 * len(killed):
            victim = chance.choice(workers)
            victim.send_signal(signal.SIGKILL)
            killed.append(victim.pid)

    job = echo_job(dataset, tmp_path / "run", {"step_seconds": "0.005", "batch": "8"})
    outcome = run(job, Watcher(kill_one))
    assert len(killed) == 6
    assert sum(worker.deaths for worker in outcome.report.workers) == 6
    assert [death.reason for death in outcome.report.deaths] == ["it was killed by SIGKILL"] * 6
    assert sum(death.requests for death in outcome.report.deaths) == outcome.report.requests.redone
    assert any(death.back_after_seconds for death in outcome.report.deaths)
    assert expected_lines(dataset) == read_lines(outcome.folder / "results.jsonl")
    assert not (outcome.folder / "failures.jsonl").exists()


@pytest.mark.parametrize("option", ["crash", "raise_on"])
def test_only_the_guilty_request_fails(tmp_path, dataset, option) -> None:
    """Requests that kill their worker are given up with the reason; all that were in hand with them are answered."""
    outcome = run_echo(dataset, tmp_path / "run", {option: "3,150", "capacity": "64"})
    failed = read_lines(outcome.folder / "failures.jsonl")
    assert [line["task_id"] for line in failed] == [3, 150]
    reason = "SIGKILL" if option == "crash" else "told to raise"
    assert all(reason in line["error"]["message"] for line in failed)
    others = [line for line in expected_lines(dataset) if line["task_id"] not in (3, 150)]
    assert others == read_lines(outcome.folder / "results.jsonl")


def test_engine_failures_are_data(tmp_path, dataset) -> None:
    """A request that the engine fails or refuses is a failure with its reason, and costs no worker."""
    outcome = run_echo(dataset, tmp_path / "run", {"fail": "5", "refuse_requests": "6"})
    kinds = {
        line["task_id"]: line["error"]["kind"]
        for line in read_lines(outcome.folder / "failures.jsonl")
    }
    assert kinds == {5: "engine_error", 6: "refused"}
    assert outcome.report.requests.failed == 2
    assert outcome.report.requests.answered == 198
    assert not any(worker.deaths for worker in outcome.report.workers)


def test_stuck_worker_is_ended(tmp_path, dataset) -> None:
    """A worker whose engine never returns is killed after --stall-seconds, and only its request is given up."""
    limits = Limits(stall_seconds=0.4)
    outcome = run_echo(dataset, tmp_path / "run", {"hang": "9"}, limits=limits)
    (failed,) = read_lines(outcome.folder / "failures.jsonl")
    assert failed["task_id"] == 9
    assert "was silent" in failed["error"]["message"]
    assert len(read_lines(outcome.folder / "results.jsonl")) == 199


def test_stopped_worker_is_replaced(tmp_path) -> None:
    """A worker under SIGSTOP for longer than the limit is killed, and its requests are answered by others."""
    dataset = write_dataset(tmp_path / "requests.jsonl", 1000)
    stopped = []

    def stop_one(snapshot) -> None:
        if not stopped and snapshot.completed > 100:
            stopped.append(workers_of(os.getpid())[0])
            stopped[0].suspend()

    options = {"step_seconds": "0.01", "batch": "8"}
    job = echo_job(dataset, tmp_path / "run", options, limits=Limits(stall_seconds=0.5))
    outcome = run(job, Watcher(stop_one))
    assert stopped
    assert not alive(stopped)
    assert expected_lines(dataset) == read_lines(outcome.folder / "results.jsonl")


def test_refusal_ends_the_run_with_its_sentence(tmp_path, dataset) -> None:
    """An engine that will not load ends the run at once with its own words, and leaves the folder free."""
    with pytest.raises(EngineRefused, match=r"^the weights are missing$"):
        run_echo(dataset, tmp_path / "run", {"refuse": "the weights are missing"})
    assert run_echo(dataset, tmp_path / "run").report.requests.answered == 200


def test_unknown_engine_option_lists_the_known(tmp_path, dataset) -> None:
    """A --set key that the engine does not have is wrong usage, with the known keys named."""
    with pytest.raises(UsageError, match=r"no option 'speed'.*known: batch, capacity"):
        run_echo(dataset, tmp_path / "run", {"speed": "11"})


def test_no_worker_left_says_how_to_go_on(tmp_path, dataset) -> None:
    """When every worker has died too often the run ends, keeps what it has, and says how to go on."""
    folder, options = tmp_path / "run", {"exit_after": "20", "batch": "10"}
    with pytest.raises(NoWorkersLeft, match=r"exited with status 0.*--output"):
        run_echo(dataset, folder, options, limits=Limits(max_restarts=0))


def test_slow_loading_is_limited(tmp_path, dataset) -> None:
    """An engine that does not load in time counts as dead, and the reason says so."""
    limits = Limits(load_seconds=0.2, max_restarts=0)
    with pytest.raises(NoWorkersLeft, match="did not load"):
        run_echo(dataset, tmp_path / "run", {"load_seconds": "60"}, limits=limits)


@pytest.mark.parametrize("stuck", [False, True])
def test_killed_coordinator_leaves_no_process(tmp_path, dataset, stuck) -> None:
    """When the coordinator is killed every worker ends, even one that is stuck in its engine."""
    options = ["--set", "hang=0"] if stuck else ["--set", "step_seconds=0.2"]
    process = start_trt_dp(
        "run", "--engine", "echo", "--request-path", dataset, "--n-workers", 2,
        "--output-dir", tmp_path / "run", *options,
    )  # fmt: skip
    log = tmp_path / "run" / "logs" / "worker-0.log"
    wait_until(lambda: log.exists() and "ready" in log.read_text())
    below = children(process.pid)
    assert len(below) >= 4  # two workers and their guards
    process.kill()
    process.communicate()
    _, left = psutil.wait_procs(below, timeout=120)
    for child in alive(left):
        child.kill()
    assert not left


def test_killed_coordinator_is_gone_on_with(tmp_path) -> None:
    """A run whose coordinator was killed in the middle goes on where it was, and ends as if nothing had been."""
    dataset = write_dataset(tmp_path / "requests.jsonl", 2000)
    folder = tmp_path / "run"
    process = start_trt_dp(
        "run", "--engine", "echo", "--request-path", dataset, "--n-workers", 2, "--no-timing",
        "--output-dir", folder, "--set", "step_seconds=0.01", "--set", "batch=8",
    )  # fmt: skip
    journal = folder / "journal"
    wait_until(lambda: journal.exists() and journal.stat().st_size > 50_000)
    process.kill()
    process.communicate()
    job = echo_job(dataset, folder, {"step_seconds": "0.01", "batch": "8"})
    outcome = run(job, Watcher())
    assert 0 < outcome.report.requests.answered_now < 2000
    assert expected_lines(dataset) == read_lines(folder / "results.jsonl")


def test_an_id_that_no_vocabulary_holds_fails_alone(tmp_path) -> None:
    """A request with an id beyond 2**31-1 is refused with that reason; no worker dies of it."""
    dataset = tmp_path / "requests.jsonl"
    lines = [f'{{"input_ids":[{number}],"output_tokens":1}}' for number in (1, 2**31, 3)]
    dataset.write_text("\n".join(lines))
    outcome = run_echo(dataset, tmp_path / "run", skip_bad=True)
    (failed,) = read_lines(outcome.folder / "failures.jsonl")
    assert (failed["task_id"], failed["error"]["kind"]) == (1, "bad_line")
    assert not any(worker.deaths for worker in outcome.report.workers)


def test_a_dead_engine_costs_no_request(tmp_path, dataset) -> None:
    """An engine that dies of every request before it ever answers ends the run, and gives no request up."""
    with pytest.raises(NoWorkersLeft, match="0 of 200 requests are completed"):
        run_echo(dataset, tmp_path / "run", {"exit_after": "1"}, limits=Limits(max_restarts=5))


def test_a_stopped_coordinator_does_not_blame_its_workers(tmp_path) -> None:
    """Workers are not taken for silent when it was the coordinator that was stopped for longer than the limit."""
    dataset = write_dataset(tmp_path / "requests.jsonl", 600)
    process = start_trt_dp(
        "run", "--engine", "echo", "--request-path", dataset, "--n-workers", 2, "--no-timing",
        "--output-dir", tmp_path / "run", "--set", "step_seconds=0.05", "--set", "batch=8",
        "--stall-seconds", 2,
    )  # fmt: skip
    journal = tmp_path / "run" / "journal"
    wait_until(lambda: journal.exists() and journal.stat().st_size > 1000)
    process.send_signal(signal.SIGSTOP)
    time.sleep(4)
    process.send_signal(signal.SIGCONT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "died" not in said
    assert expected_lines(dataset) == read_lines(tmp_path / "run" / "results.jsonl")


def test_a_capacity_of_nothing_is_refused(tmp_path, dataset) -> None:
    """An engine that takes no request at all is refused instead of waited for."""
    with pytest.raises(EngineRefused, match="must be at least 1"):
        run_echo(dataset, tmp_path / "run", {"capacity": "0"})
