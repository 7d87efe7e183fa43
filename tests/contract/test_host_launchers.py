"""What every launcher of agents must do: the built-in ones that need no cluster, and the one of docs/extending.md."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import clusters
import documented
import pytest
from conftest import wait_until

from trt_dp import plugins
from trt_dp.coordinator.workers.admission import Admission
from trt_dp.launchers import HostLauncher
from trt_dp.wire import certificate
from trt_dp.wire.messages import Host

pytest.importorskip("cryptography")
DOUBLES = Path(__file__).parents[1] / "doubles"
LAUNCHERS: dict[str, dict[str, object]] = {
    "ssh": {"hosts": "127.0.0.1", "ssh": str(DOUBLES / "ssh/ssh")},
    "pod": {"hosts": "127.0.0.1"},
    "mpi-hosts": {"hosts": "127.0.0.1"},
    "slurm": {},
    "ray": {},
}


@pytest.fixture(params=LAUNCHERS)
def launcher(request, tmp_path, monkeypatch) -> Iterator[HostLauncher]:
    """Each launcher for one host, which is this machine; closed once at the end."""
    monkeypatch.syspath_prepend(tmp_path / "site")
    documented.install(tmp_path / "site")
    clusters.pretend(monkeypatch, nodes="127.0.0.1")
    launcher_class = plugins.find(plugins.LAUNCHERS, request.param)
    if why := getattr(launcher_class, "why_not", lambda: None)():
        pytest.skip(why)
    with clusters.ray_head() as head:
        more = {"address": head} if request.param == "ray" else {}
        yield launcher_class(**LAUNCHERS[request.param], **more)
    documented.forget()


@pytest.fixture
def door() -> Iterator[Admission]:
    admission = Admission("127.0.0.1", 0, certificate.make())
    yield admission
    admission.close()


def arrival(door: Admission) -> tuple[object, object]:
    """The first who comes in."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if arrived := door.arrivals():
            return arrived[0]
        time.sleep(0.01)
    msg = "no agent came"
    raise AssertionError(msg)


def test_it_is_a_launcher_of_agents(launcher):
    """It has what the coordinator tells the two kinds by, and says where its hosts are."""
    assert isinstance(launcher, HostLauncher)
    assert list(launcher.hosts) == ["127.0.0.1"]
    launcher.close()


def test_an_agent_comes_and_its_end_is_told_once(launcher, door):
    """The agent introduces its host; once it has left, its starter ends too and is reported."""
    launcher.begin(door.credentials)
    said, channel = arrival(door)
    assert isinstance(said, Host)
    assert not launcher.poll()
    channel.close()
    told: list[object] = []
    wait_until(lambda: told.extend(launcher.poll()) or told)
    assert [(one.name, bool(one.why)) for one in told] == [("127.0.0.1", True)]
    assert not launcher.poll()
    launcher.close()


def test_the_key_is_in_no_command_line(launcher, door):
    """Every user of a machine can read the arguments of all processes."""
    launcher.begin(door.credentials)
    _, channel = arrival(door)
    lines = [line for process in Path("/proc").glob("[0-9]*/cmdline") if (line := _read(process))]
    assert any(b"trt_dp.agent" in line for line in lines)
    assert not any(door.credentials.key.encode() in line for line in lines)
    channel.close()
    launcher.close()


def test_close_waits_for_what_it_started(launcher, door):
    """After the agents were told to leave, none of its processes is left."""
    launcher.begin(door.credentials)
    _, channel = arrival(door)
    channel.close()
    launcher.close()
    assert not Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().strip()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
