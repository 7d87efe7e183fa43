"""What a run refuses before it makes a folder, and what it needs no engine folder for."""

from __future__ import annotations

import subprocess
import sys

import pytest
from conftest import Watcher, run_echo

from trt_dp.coordinator.job import Job
from trt_dp.coordinator.run import run
from trt_dp.errors import FolderError, UsageError
from trt_dp.types import EngineSpec


def test_an_unknown_option_of_an_engine_is_refused_before_a_folder_is_made(tmp_path, dataset):
    """A mistyped --set key is refused with the name that was meant, and no run folder is left."""
    with pytest.raises(UsageError, match=r"'capacty'.*did you mean 'capacity'"):
        run_echo(dataset, tmp_path / "run", {"capacty": "3"})
    assert not (tmp_path / "run").exists()


def test_checking_the_options_of_an_engine_loads_no_heavy_library():
    """The coordinator knows the options of the CPU engine without importing OpenVINO."""
    code = (
        "import sys; from trt_dp import plugins; from trt_dp.errors import UsageError\n"
        "try: plugins.check_options(plugins.ENGINES, 'cpu', {'nonsense': '1'})\n"
        "except UsageError: print('refused', 'openvino' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "refused False\n"


def test_a_run_without_an_engine_folder_is_resumed(tmp_path, dataset):
    """An engine that needs no folder has none: its run is stored and resumed without one."""
    job = Job(dataset, tmp_path / "run", EngineSpec("echo"), workers=1)
    assert run(job, Watcher()).report.requests.answered_now == 200
    assert run(job, Watcher()).report.requests.answered == 200


def test_start_up_is_reported_apart(tmp_path, dataset):
    """What the coordinator computes before the first engine is loaded is no part of a request's cost."""
    found = run_echo(dataset, tmp_path / "run").report.coordinator
    assert 0 < found.startup_cpu_seconds < found.cpu_seconds
    dispatch = found.cpu_seconds - found.startup_cpu_seconds
    assert found.cpu_us_per_request == pytest.approx(dispatch * 1e6 / 200)


def test_a_folder_of_runs_is_no_run_folder(tmp_path, dataset):
    """The parent of runs is refused by name, and nothing is written into it."""
    run_echo(dataset, tmp_path / "runs" / "first")
    with pytest.raises(FolderError, match="holds other runs, such as first"):
        run_echo(dataset, tmp_path / "runs")
    assert {one.name for one in (tmp_path / "runs").iterdir()} <= {"first", ".lock"}
