"""The promise that runs can be resumed: signals, a second coordinator, other runs' folders, full disks."""

from __future__ import annotations

import signal
import subprocess
import time

import psutil
import pytest
from conftest import (
    Watcher,
    children,
    echo_job,
    expected_lines,
    read_lines,
    run_echo,
    start_trt_dp,
    trt_dp,
    write_dataset,
)

import trt_dp as trt_dp_api
from trt_dp.coordinator.run import run
from trt_dp.errors import DatasetError, FolderError

SLOW = ("--set", "step_seconds=0.05", "--set", "batch=4", "--set", "capacity=8")


def _start(dataset, folder, *more) -> subprocess.Popen[str]:
    process = start_trt_dp(
        "run", "--engine", "echo", "--request-path", dataset, "--output-dir", folder,
        "--n-workers", 2, "--no-timing", *SLOW, *more,
    )  # fmt: skip
    journal, deadline = folder / "journal", time.monotonic() + 120
    while not (journal.exists() and journal.stat().st_size > 1000):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


def _wait_until_stuck(journal) -> None:
    """Until nothing was added to the journal for two seconds, in which a step takes a twentieth of one."""
    before = -1
    while before != (before := journal.stat().st_size):
        time.sleep(2)


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_drains_and_keeps(tmp_path, kind) -> None:
    """The first signal waits for requests in flight, exits with 130, and the same command resumes the run."""
    dataset, folder = write_dataset(tmp_path / "requests.jsonl", 600), tmp_path / "run"
    process = _start(dataset, folder)
    below = children(process.pid)
    process.send_signal(kind)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert f"repeat the command with --output {folder}" in said
    assert not psutil.wait_procs(below, timeout=120)[1]
    assert not (folder / "results.jsonl").exists()
    options = dict(setting.split("=") for setting in SLOW[1::2])
    outcome = run(echo_job(dataset, folder, options), Watcher())
    assert 0 < outcome.report.requests.answered_now < 600
    assert expected_lines(dataset) == read_lines(folder / "results.jsonl")


def test_a_second_signal_stops_at_once(tmp_path) -> None:
    """A second signal does not wait for a worker that is stuck, and leaves no process."""
    dataset, folder = write_dataset(tmp_path / "requests.jsonl", 600), tmp_path / "run"
    process = _start(dataset, folder, "--set", "hang=100,101,102,103,104,105,106,107,108")
    below = children(process.pid)
    _wait_until_stuck(folder / "journal")
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode == 130
    assert not psutil.wait_procs(below, timeout=120)[1]


def test_a_second_coordinator_is_refused(tmp_path) -> None:
    """While one run is in a folder another is refused, and the first is not disturbed."""
    dataset, folder = write_dataset(tmp_path / "requests.jsonl", 1000), tmp_path / "run"
    process = _start(dataset, folder)
    second = trt_dp(
        "run", "--engine", "echo", "--request-path", dataset, "--output-dir", folder, "--fresh"
    )
    assert second.returncode == 2
    assert "in use by another run" in second.stderr
    process.communicate(timeout=120)
    assert process.returncode == 0
    assert expected_lines(dataset) == read_lines(folder / "results.jsonl")


def test_finished_run_is_not_run_again(tmp_path, dataset) -> None:
    """The same command on a finished folder starts no worker, and leaves the same results and the same report."""
    first = run_echo(dataset, tmp_path / "run")
    before = (first.folder / "results.jsonl").read_bytes()
    again = run_echo(dataset, tmp_path / "run")
    assert again.report == first.report
    assert trt_dp_api.load_report(tmp_path / "run") == first.report
    assert before == (again.folder / "results.jsonl").read_bytes()


def test_fresh_starts_over(tmp_path, dataset) -> None:
    """With --fresh everything is answered again, and another run's folder can be taken."""
    run_echo(dataset, tmp_path / "run")
    other = write_dataset(tmp_path / "other.jsonl", 50)
    outcome = run_echo(other, tmp_path / "run", fresh=True)
    assert outcome.report.requests.answered_now == 50
    assert expected_lines(other) == read_lines(outcome.folder / "results.jsonl")


def test_other_runs_folder_is_refused(tmp_path, dataset) -> None:
    """A folder of another dataset, engine or form of results is refused with the name of what differs."""
    folder = tmp_path / "run"
    run_echo(dataset, folder)
    other = write_dataset(tmp_path / "other.jsonl", 50)
    with pytest.raises(FolderError, match="the dataset changed since this run started"):
        run_echo(other, folder)
    with pytest.raises(FolderError, match="it was started with --engine echo"):
        run_echo(dataset, folder, {"capacity": "3"})
    with pytest.raises(FolderError, match="--no-timing must be as it was"):
        run_echo(dataset, folder, timing=True)


def test_touched_dataset_goes_on_and_changed_one_does_not(tmp_path, dataset) -> None:
    """A dataset with a new date and the same bytes is the same dataset; one changed digit makes it another."""
    folder = tmp_path / "run"
    run_echo(dataset, folder)
    dataset.touch()
    assert run_echo(dataset, folder).report.requests.answered == 200
    text = dataset.read_text()
    digit = text.rindex("]") - 1
    other = "1" if text[digit] != "1" else "2"
    dataset.write_text(text[:digit] + other + text[digit + 1 :])
    with pytest.raises(FolderError, match="the dataset changed since this run started"):
        run_echo(dataset, folder)


def test_dataset_changed_while_running_is_noticed(tmp_path) -> None:
    """Requests that change under a run end it with a sentence; nothing is answered from the changed file."""
    dataset, folder = write_dataset(tmp_path / "requests.jsonl", 600), tmp_path / "run"
    process = _start(dataset, folder)
    store = folder / "requests.store"
    with store.open("r+") as file:
        file.seek(store.stat().st_size // 2)
        file.write("x")
    _, said = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "changed while the run used it" in said


def test_bad_lines_refuse_the_run_or_become_failures(tmp_path) -> None:
    """Bad lines stop a run before anything is loaded; with --skip-bad they fail in place and the rest is answered."""
    dataset = tmp_path / "requests.jsonl"
    good = '{"input_ids":[1,2],"output_tokens":1}'
    lines = [good, "nonsense", good, '{"input_ids":[],"output_tokens":1}', "", good]
    dataset.write_text("\n".join(lines))
    with pytest.raises(DatasetError, match=r"(?s)line 2: .*line 4: `input_ids` is empty"):
        run_echo(dataset, tmp_path / "run")
    outcome = run_echo(dataset, tmp_path / "run", skip_bad=True)
    assert [line["task_id"] for line in read_lines(outcome.folder / "results.jsonl")] == [0, 2, 4]
    failures = read_lines(outcome.folder / "failures.jsonl")
    assert [line["error"]["kind"] for line in failures] == ["bad_line", "bad_line"]
    assert failures[1]["error"]["message"] == "line 4: `input_ids` is empty"
    assert outcome.report.requests.failed == 2


def test_failed_requests_make_status_three(tmp_path, dataset) -> None:
    """A run that ends with failures exits with 3 and names their file."""
    done = trt_dp(
        "run", "--engine", "echo", "--request-path", dataset, "--output-dir", tmp_path / "run",
        "--set", "fail=1",
    )  # fmt: skip
    assert done.returncode == 3
    assert "failures.jsonl" in done.stdout


def test_full_disk_keeps_what_was_journaled(tmp_path) -> None:
    """When the journal cannot grow the run ends with a sentence, and is resumed once there is room."""
    dataset, folder = write_dataset(tmp_path / "requests.jsonl", 3000), tmp_path / "run"
    command = (
        f"import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, -1)); "
        f"import sys; sys.argv = ['trt-dp', 'run', '--engine', 'echo', '--no-timing', "
        f"'--request-path', {str(dataset)!r}, '--output-dir', {str(folder)!r}, '--n-workers', '2']; "
        f"from trt_dp.cli.main import main; main()"
    )
    import sys

    done = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1, done.stderr
    assert "Fix the cause, then repeat the command to resume" in done.stderr
    outcome = run_echo(dataset, folder)
    assert 0 < outcome.report.requests.answered_now < 3000
    assert expected_lines(dataset) == read_lines(folder / "results.jsonl")
