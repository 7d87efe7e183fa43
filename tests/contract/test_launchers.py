"""What every launcher must do: the built-in ones, and the one of docs/extending.md."""

from __future__ import annotations

import importlib.util
import os
import socket
from collections.abc import Iterator

import documented
import psutil
import pytest
from conftest import children, wait_until

from trt_dp import plugins
from trt_dp.launchers.mpi.launcher import find_mpirun
from trt_dp.types import Placement

LAUNCHERS = ["local", "inline", "mpi", "nice"]


@pytest.fixture(params=LAUNCHERS)
def launcher(request, tmp_path, monkeypatch) -> Iterator[object]:
    """Each launcher, closed once at the end."""
    if request.param == "mpi" and (not find_mpirun() or not importlib.util.find_spec("mpi4py")):
        pytest.skip("there is no mpirun, or no mpi4py")
    monkeypatch.syspath_prepend(tmp_path / "site")
    documented.install(tmp_path / "site")
    made = plugins.find(plugins.LAUNCHERS, request.param)()
    yield made
    made.close()
    documented.forget()


@pytest.fixture
def door() -> Iterator[socket.socket]:
    """A coordinator's door at which nobody answers: a worker waits there."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def environment(port: int, **more: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    wanted = {
        "TRT_DP_ADDRESS": f"127.0.0.1:{port}",
        "TRT_DP_KEY": "00" * 32,
        "TRT_DP_WORKER": "0",
        "TRT_DP_LAUNCH": "0",
    }
    return {**kept, **wanted, **more}


def workers() -> list[psutil.Process]:
    """The processes of this test that run a worker, or a rank of one."""
    return [one for one in children(os.getpid()) if _serves(one)]


def _serves(process: psutil.Process) -> bool:
    try:
        return {"trt_dp.worker", "trt_dp.launchers.mpi.rank"} & set(process.cmdline()) != set()
    except psutil.Error:
        return False


def test_a_worker_runs_until_its_coordinator_hangs_up(launcher, door, tmp_path):
    """`poll` gives nothing while it runs, then a status that says it was no good end; its words are in the log."""
    process = launcher.start(Placement(0), environment(door.getsockname()[1]), tmp_path / "log")
    connection, _ = door.accept()
    assert process.poll() is None
    connection.close()
    wait_until(lambda: process.poll() is not None)
    assert process.poll() not in (0, None)
    assert "is not this run's coordinator" in (tmp_path / "log").read_text()


def test_a_worker_without_a_coordinator_ends_badly(launcher, door, tmp_path):
    """Where nobody listens, it ends by itself with a status other than 0."""
    port = door.getsockname()[1]
    door.close()
    process = launcher.start(Placement(0), environment(port), tmp_path / "log")
    wait_until(lambda: process.poll() is not None)
    assert process.poll() != 0


def test_kill_ends_a_worker_with_everything_below_it(launcher, door, tmp_path):
    """A killable launcher's worker is dead soon after `kill`, which may come twice."""
    process = launcher.start(Placement(0), environment(door.getsockname()[1]), tmp_path / "log")
    connection, _ = door.accept()
    if not launcher.killable:
        process.kill()
        assert process.poll() is None
        connection.close()
        wait_until(lambda: process.poll() is not None)
        return
    below = children(os.getpid())
    assert below
    process.kill()
    process.kill()
    wait_until(lambda: process.poll() is not None)
    connection.close()
    gone, left = psutil.wait_procs(below, timeout=120)
    assert gone
    assert not left
    process.kill()


def test_the_environment_is_exactly_the_one_given(launcher, door, tmp_path, monkeypatch):
    """A worker has each variable that was given, and none of the coordinator's others."""
    if not launcher.killable:
        pytest.skip("its worker is a thread of this process")
    monkeypatch.setenv("TRT_DP_TEST_SECRET", "the coordinator's own")
    wanted = environment(door.getsockname()[1], CUDA_VISIBLE_DEVICES="7")
    process = launcher.start(Placement(0), wanted, tmp_path / "log")
    connection, _ = door.accept()
    (worker,) = workers()[-1:]
    found = worker.environ()
    assert wanted.items() <= found.items()
    assert "TRT_DP_TEST_SECRET" not in found
    process.kill()
    wait_until(lambda: process.poll() is not None)
    connection.close()


def test_it_says_where_it_is_reached_and_whether_it_can_kill(launcher):
    """The address for workers and the power to end them are known before anything is started."""
    assert isinstance(launcher.host, str)
    assert isinstance(launcher.killable, bool)
