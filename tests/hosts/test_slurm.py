"""Runs over nodes of a real Slurm: the answers of one machine, and nothing left on any node.

Hosts are namespaces of this machine, and Slurm is where scripts/slurm-check puts it.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest
import real_slurm
from conftest import wait_until
from host_runs import COMMAND, MARKS, SLOW, answering, clean, finish, report, sha
from hosts import Network, named, network, why_not
from real_slurm import MOUNTS, start_slurm, states, variables

WHY = why_not() or real_slurm.why_not()
pytestmark = [pytest.mark.hosts, pytest.mark.skipif(bool(WHY), reason=WHY)]

ALL_MARKS = (*MARKS, "srun", "slurmstepd: [")
ALLOCATED = ("salloc", "-N2", "--no-kill", "--exclusive")


@pytest.fixture(scope="module")
def net(tmp_path_factory) -> Iterator[Network]:
    """A controller, and two nodes with two cores each."""
    folder = tmp_path_factory.mktemp("slurm")
    with network(folder, 3, *MOUNTS, named(folder, 3)) as made:
        start_slurm(made)
        yield made


@pytest.fixture
def begin(net, hosts, requests, tmp_path):
    """A run on the controller's host, after these words."""

    def start(*words: object, before: tuple[str, ...] = ALLOCATED) -> subprocess.Popen[str]:
        line = [*before, *COMMAND, "run", requests, "--engine", "echo", "--no-timing", "--plain"]
        line += ["--output", tmp_path / "run", "--launcher", "slurm", *SLOW, *words]
        environment = {**os.environ, **variables(net)}
        started.append(hosts[0].start(*line, env=environment))
        return started[-1]

    started: list[subprocess.Popen[str]] = []
    wait_until(lambda: states(net) == ["idle", "idle"], 60)
    yield start
    hosts[0].run("env", f"SLURM_CONF={net.settings}", "scancel", "--user=root")
    for one in started:
        one.kill()
        one.communicate()


def empty(net: Network) -> bool:
    """Whether nothing of a run is on any host."""
    return clean(net.hosts, ALL_MARKS)


def test_slurm_brings_the_nodes_of_an_allocation(net, begin, tmp_path, local_sha):
    """One step starts an agent on each node, which uses all cores of the job there."""
    said = finish(begin())
    assert "n1 (2 cores): workers" in said
    assert "n2 (2 cores): workers" in said
    assert sha(tmp_path / "run") == local_sha
    wait_until(lambda: empty(net), 30)


def test_slurm_takes_a_run_from_outside_as_a_job(net, begin, tmp_path, local_sha):
    """The command prints the job and ends; the job runs it, on as many nodes as were asked for."""
    job = ("nodes=2", "partition=all", "time=5", f"sbatch=--exclusive --chdir='{tmp_path}'")
    words = [word for one in job for word in ("--launcher-set", one)]
    process = begin(*words, before=())
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert told.startswith("job ")
    number = told.split()[1]
    wait_until((tmp_path / "run" / "report.json").exists, 120)
    wait_until(lambda: states(net) == ["idle", "idle"], 60)
    assert "n1 (2 cores): workers" in (tmp_path / f"slurm-{number}.out").read_text()
    assert sorted(host["host"] for host in report(tmp_path)["hosts"]) == ["n1", "n2"]
    assert sha(tmp_path / "run") == local_sha
    wait_until(lambda: empty(net), 30)


def test_slurm_refuses_a_job_in_its_own_words(begin):
    """A partition that there is not is no job."""
    words = ("--launcher-set", "nodes=2", "--launcher-set", "partition=none")
    said = finish(begin(*words, before=()), 2)
    assert "Slurm does not take the job: " in said
    assert "invalid partition" in said


def test_slurm_loses_nothing_with_a_node(net, hosts, begin, tmp_path, local_sha):
    """What was in flight on a node that is cut off runs on the other."""
    process = begin("--set", "step_seconds=0.1")
    wait_until(lambda: answering(tmp_path))
    hosts[2].cut()
    said = finish(process)
    assert "the host n2 is lost, with 2 workers" in said
    assert sha(tmp_path / "run") == local_sha
    hosts[2].mend()
    wait_until(lambda: empty(net), 60)


def test_slurm_is_left_empty_by_a_killed_coordinator(net, hosts, begin, tmp_path):
    """Srun ends with it, and the agents with srun."""
    begin("--set", "step_seconds=0.3")
    wait_until(lambda: answering(tmp_path))
    assert hosts[0].kill("trt_dp run")
    wait_until(lambda: empty(net), 30)
