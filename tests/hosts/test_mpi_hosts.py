"""Runs over hosts that real Open MPI reaches: the answers of one machine, and nothing left on any host.

The hosts are namespaces of this machine (tests/support/hosts.py). Open MPI 4 is used where TRT_DP_OPEN_MPI_4 names a
folder in which it is unpacked.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import wait_until
from host_runs import MARKS, SLOW, answering, clean, finish, sha
from hosts import Network, network, over_usr, why_no_ssh

from trt_dp.launchers.mpi_hosts import MpiHostsLauncher

pytestmark = [pytest.mark.hosts, pytest.mark.skipif(bool(why := why_no_ssh()), reason=why)]

OPEN_MPI_4 = Path(os.environ.get("TRT_DP_OPEN_MPI_4", "/none"))
ALL_MARKS = (*MARKS, "prterun", "prted", "orted")

needs_mpi = pytest.mark.skipif(
    bool(no_mpi := MpiHostsLauncher.why_not()), reason=no_mpi or "there is Open MPI"
)
needs_mpi_4 = pytest.mark.skipif(
    not OPEN_MPI_4.is_dir(), reason="TRT_DP_OPEN_MPI_4 names no folder: scripts/mpi-check --fetch"
)


@pytest.fixture(scope="module")
def older(tmp_path_factory) -> Iterator[Network]:
    """Three hosts more, where mpirun is that of Open MPI 4."""
    with network(tmp_path_factory.mktemp("older"), 3, over_usr(OPEN_MPI_4 / "usr")) as made:
        made.command = made.ssh()
        yield made


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


@needs_mpi
def test_mpirun_brings_two_hosts(net, launch, tmp_path, local_sha):
    """The results are byte-equal, and no daemon of Open MPI is left."""
    said = finish(launch(net, by_mpi(net), *SLOW))
    assert "n1 (" in said
    assert "n2 (" in said
    assert sha(tmp_path / "run") == local_sha
    wait_until(lambda: not left(net), 20)


@needs_mpi
def test_a_killed_coordinator_leaves_nothing_of_mpirun(net, launch):
    """Agents leave when their connection ends, and each mpirun ends with its agent."""
    launch(net, by_mpi(net), "--set", "step_seconds=0.3")
    wait_until(lambda: working(net))
    net.hosts[0].kill("trt_dp run")
    wait_until(lambda: not left(net), 20)


@needs_mpi_4
def test_mpirun_of_open_mpi_4_brings_two_hosts(older, launch, tmp_path, local_sha):
    """Its settings have other names; the results are byte-equal, and no daemon is left."""
    assert "Open MPI) 4" in older.hosts[0].run("mpirun", "--version").stdout
    said = finish(launch(older, by_mpi(older), *SLOW))
    assert "n1 (" in said
    assert "n2 (" in said
    assert sha(tmp_path / "run") == local_sha
    wait_until(lambda: not left(older), 20)


@needs_mpi_4
def test_open_mpi_4_loses_nothing_with_a_host(older, launch, tmp_path, local_sha):
    """After a pulled cable the other host answers the rest; nothing of the run is left on any."""
    process = launch(older, by_mpi(older), *SLOW, "--set", "step_seconds=0.1")
    wait_until(lambda: answering(tmp_path))
    older.hosts[2].cut()
    assert "the host n2 is lost" in finish(process)
    assert sha(tmp_path / "run") == local_sha
    wait_until(lambda: clean(older.hosts[:2], (*ALL_MARKS, "ssh -F")), 20)
    wait_until(
        lambda: clean(older.hosts), 20
    )  # but for Open MPI's own daemon on the host that is cut
