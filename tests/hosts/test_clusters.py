"""Runs over hosts that real Open MPI and real Ray reach: the answers of one machine, and nothing left on any host.

The hosts are namespaces of this machine (tests/support/hosts.py). Ray is used where TRT_DP_TEST_RAY names a Python
that has it and trt-dp, and Open MPI 4 where TRT_DP_OPEN_MPI_4 names a folder in which it is unpacked.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import wait_until
from host_runs import MARKS, SLOW, answering, clean, finish, sha
from hosts import Host, Network, network, over_usr, why_no_ssh

from trt_dp.launchers.mpi_hosts import MpiHostsLauncher

pytestmark = [pytest.mark.hosts, pytest.mark.skipif(bool(why := why_no_ssh()), reason=why)]

RAY = os.environ.get("TRT_DP_TEST_RAY", "")
OPEN_MPI_4 = Path(os.environ.get("TRT_DP_OPEN_MPI_4", "/none"))
ALL_MARKS = (*MARKS, "prterun", "prted", "orted")
MEMORY = "--object-store-memory=80000000"

needs_mpi = pytest.mark.skipif(
    bool(no_mpi := MpiHostsLauncher.why_not()), reason=no_mpi or "there is Open MPI"
)
needs_mpi_4 = pytest.mark.skipif(
    not OPEN_MPI_4.is_dir(), reason="TRT_DP_OPEN_MPI_4 names no folder: scripts/mpi-check --fetch"
)
needs_ray = pytest.mark.skipif(not RAY, reason="TRT_DP_TEST_RAY names no Python with Ray")


@pytest.fixture(scope="module")
def cluster(net) -> Iterator[None]:
    """Ray on all three, with two cores on each but the first; it ends with the hosts."""
    folder = tempfile.mkdtemp(prefix="tdr")  # short: there are sockets in it
    first = ["--head", "--port=6379", "--num-cpus=0", f"--temp-dir={folder}"]
    first += ["--include-dashboard=false"]
    start_ray(net.hosts[0], *first)
    for host in net.hosts[1:]:
        start_ray(host, *as_node(net))
    yield
    shutil.rmtree(folder, ignore_errors=True)


def as_node(net: Network) -> tuple[str, str]:
    """A node with two cores."""
    return f"--address={net.hosts[0].address}:6379", "--num-cpus=2"


def start_ray(host: Host, *role: str) -> None:
    """Start Ray on a host."""
    own = [f"--node-ip-address={host.address}", "--num-gpus=0", "--disable-usage-stats", MEMORY]
    done = host.run(Path(RAY).parent / "ray", "start", *role, *own)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def older(tmp_path_factory) -> Iterator[Network]:
    """Three hosts more, where mpirun is that of Open MPI 4."""
    with network(tmp_path_factory.mktemp("older"), 3, over_usr(OPEN_MPI_4 / "usr")) as made:
        made.command = made.ssh()
        yield made


@pytest.fixture
def start(requests, tmp_path):
    """A run from the first host of a network with this launcher."""

    def begin(net: Network, launcher: list[str], *words: str, python: str = sys.executable):
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


def left(net: Network) -> bool:
    """Whether any process of a run is on any host."""
    return not clean(net.hosts, ALL_MARKS)


def working(net: Network) -> bool:
    """Whether both hosts run workers."""
    return all(host.processes("trt_dp.worker") for host in net.hosts[1:])


def by_mpi(net: Network) -> list[str]:
    """Options for the two hosts by mpirun; they have no names here."""
    hosts = ",".join(host.address for host in net.hosts[1:])
    settings = [f"ssh={net.command}", "network=eth0"]
    more = [word for one in settings for word in ("--launcher-set", one)]
    return ["--launcher", "mpi-hosts", "--hosts", hosts, *more]


def by_ray(net: Network, *settings: str) -> list[str]:
    """Options for agents by Ray."""
    told = [f"address={net.hosts[0].address}:6379", *settings]
    return ["--launcher", "ray", *(word for one in told for word in ("--launcher-set", one))]


TWO = ("agents=2", "cores=2")


@needs_mpi
def test_mpirun_brings_two_hosts(net, start, tmp_path, local_sha):
    """The results are byte-equal, and no daemon of Open MPI is left."""
    said = finish(start(net, by_mpi(net), *SLOW))
    assert "n1 (" in said
    assert "n2 (" in said
    assert sha(tmp_path / "run") == local_sha
    wait_until(lambda: not left(net), 20)


@needs_mpi
def test_a_killed_coordinator_leaves_nothing_of_mpirun(net, start):
    """Agents leave when their connection ends, and each mpirun ends with its agent."""
    start(net, by_mpi(net), "--set", "step_seconds=0.3")
    wait_until(lambda: working(net))
    net.hosts[0].kill("trt_dp run")
    wait_until(lambda: not left(net), 20)


@needs_mpi_4
def test_mpirun_of_open_mpi_4_brings_two_hosts(older, start, tmp_path, local_sha):
    """Its settings have other names; the results are byte-equal, and no daemon is left."""
    assert "Open MPI) 4" in older.hosts[0].run("mpirun", "--version").stdout
    said = finish(start(older, by_mpi(older), *SLOW))
    assert "n1 (" in said
    assert "n2 (" in said
    assert sha(tmp_path / "run") == local_sha
    wait_until(lambda: not left(older), 20)


@needs_mpi_4
def test_open_mpi_4_loses_nothing_with_a_host(older, start, tmp_path, local_sha):
    """After a pulled cable the other host answers the rest; nothing of the run is left on any."""
    process = start(older, by_mpi(older), *SLOW, "--set", "step_seconds=0.1")
    wait_until(lambda: answering(tmp_path))
    older.hosts[2].cut()
    assert "the host n2 is lost" in finish(process)
    assert sha(tmp_path / "run") == local_sha
    wait_until(lambda: clean(older.hosts[:2], (*ALL_MARKS, "ssh -F")), 20)
    wait_until(
        lambda: clean(older.hosts), 20
    )  # but for Open MPI's own daemon on the host that is cut


@needs_ray
@pytest.mark.usefixtures("cluster")
def test_ray_brings_two_hosts(net, start, tmp_path, local_sha):
    """The results are byte-equal, both hosts took part, and nothing of the run is left."""
    said = finish(start(net, by_ray(net, *TWO), *SLOW, python=RAY))
    assert "n1 (" in said
    assert "n2 (" in said
    assert sha(tmp_path / "run") == local_sha
    wait_until(lambda: not left(net), 20)


@needs_ray
@pytest.mark.usefixtures("cluster")
def test_an_actor_that_is_killed_loses_no_request(net, start, tmp_path, local_sha):
    """Its host is lost, what was in flight there runs elsewhere, and its workers leave."""
    process = start(
        net, by_ray(net, *TWO), "--set", "step_seconds=0.1", "--set", "batch=8", python=RAY
    )
    wait_until(lambda: working(net))
    assert net.hosts[2].kill("ray::Keeper")
    assert "the host n2 is lost" in finish(process)
    assert sha(tmp_path / "run") == local_sha
    wait_until(lambda: not left(net), 20)


@needs_ray
@pytest.mark.usefixtures("cluster")
def test_a_killed_coordinator_leaves_nothing_of_the_run_in_ray(net, start):
    """Ray gets its places back, and no agent, guard or worker is left."""
    start(net, by_ray(net, *TWO), "--set", "step_seconds=0.3", python=RAY)
    wait_until(lambda: working(net))
    net.hosts[0].kill("trt_dp run")
    wait_until(lambda: not left(net), 20)


@needs_ray
@pytest.mark.usefixtures("cluster")
def test_what_ray_lacks_is_told(net, start):
    """No node has eight GPUs, and the run does not wait for one."""
    said = finish(start(net, by_ray(net, "gpus=8", "seconds=2"), python=RAY), 1)
    assert "Ray placed 0 of 1 agents in 2 s" in said
