"""Three hosts for each file of tests, and what a run on one machine answers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import run_echo, write_dataset
from host_runs import COMMAND, REQUESTS, sha
from hosts import Host, Network, network


@pytest.fixture(scope="module")
def net(tmp_path_factory) -> Iterator[Network]:
    """Three hosts with sshd; the first is the coordinator's."""
    with network(tmp_path_factory.mktemp("network"), 3) as made:
        made.command = made.ssh()
        yield made


@pytest.fixture
def hosts(net) -> Iterator[list[Host]]:
    """The same three, whole, with nothing of an earlier test on them and nothing left afterwards."""
    for host in net.hosts:
        host.mend()
    yield net.hosts
    for host in net.hosts:
        host.hasten()
        host.kill("trt_dp")
        host.kill("guard.py")


@pytest.fixture(autouse=True)
def no_orphans() -> None:
    """The hosts outlive a test; each test looks itself at what is left on them."""


@pytest.fixture(scope="session")
def requests(tmp_path_factory) -> Path:
    """Requests, each different."""
    return write_dataset(tmp_path_factory.mktemp("data") / "requests.jsonl", REQUESTS)


@pytest.fixture(scope="session")
def local_sha(requests, tmp_path_factory) -> str:
    """What a run on one machine answers."""
    return sha(run_echo(requests, tmp_path_factory.mktemp("local") / "run").folder)


@pytest.fixture
def start(net, hosts, requests, tmp_path):
    """A run over hosts n1 and n2 from host n0, by ssh."""

    def begin(
        *words: object, where: str = "n1,n2", on: Host | None = None
    ) -> subprocess.Popen[str]:
        ssh = f"ssh={net.command}"
        line = [*COMMAND, "run", requests, "--engine", "echo", "--no-timing", "--plain"]
        line += ["--output", tmp_path / "run", "--hosts", where, "--launcher-set", ssh]
        started.append((on or hosts[0]).start(*line, *words))
        return started[-1]

    started: list[subprocess.Popen[str]] = []
    yield begin
    for host in net.hosts:
        host.kill("trt_dp run")  # the processes of `started` only lead there
    for one in started:
        one.kill()
        one.communicate()


@pytest.fixture
def launch(requests, tmp_path):
    """A run from the first host of a network with these options of a launcher."""

    def begin(
        net: Network, launcher: list[str], *words: str, python: str = sys.executable
    ) -> subprocess.Popen[str]:
        line = [python, "-m", "trt_dp", "run", requests, "--engine", "echo", "--no-timing"]
        line += ["--plain", "--output", tmp_path / "run", *launcher, *words]
        started.append((net, net.hosts[0].start(*line)))
        return started[-1][1]

    started: list[tuple[Network, subprocess.Popen[str]]] = []
    yield begin
    for net, process in started:
        for host in net.hosts:
            host.kill("trt_dp")
            host.kill("guard.py")
        process.kill()
        process.communicate()
