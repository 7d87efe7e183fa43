"""Runs over nodes of a real Ray: the answers of one machine, and nothing left on any node.

Hosts are namespaces of this machine (tests/support/hosts.py). TRT_DP_TEST_RAY names a Python that has Ray and trt-dp.
Ray is told of GPUs that are not there, which it counts and gives like real ones.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import wait_until
from host_runs import SLOW, answering, clean, finish, report, sha
from hosts import Host, Network, why_not

RAY = os.environ.get("TRT_DP_TEST_RAY", "")
WHY = why_not() or ("" if RAY else "TRT_DP_TEST_RAY names no Python with Ray: scripts/ray-check")
pytestmark = [
    pytest.mark.hosts,
    pytest.mark.skipif(bool(WHY), reason=WHY),
    pytest.mark.usefixtures("cluster"),
]

PORT = 6379
TWO = ("agents=2", "cores=2")
STEADY = ("--set", "step_seconds=0.1", "--set", "batch=8")


@pytest.fixture(scope="module")
def cluster(net) -> Iterator[None]:
    """Ray on all three: the first leads, each other has two cores, and the second two GPUs; it ends with the hosts."""
    folder = tempfile.mkdtemp(prefix="tdr")  # short: there are sockets in it
    head, *nodes = net.hosts
    leads = ["--head", f"--port={PORT}", "--num-cpus=0", "--num-gpus=0", f"--temp-dir={folder}"]
    start_ray(head, *leads, "--include-dashboard=true", f"--dashboard-host={head.address}")
    start_ray(nodes[0], *as_node(net), "--num-gpus=2", '--resources={"rack": 1}')
    start_ray(nodes[1], *as_node(net))
    yield
    shutil.rmtree(folder, ignore_errors=True)


def as_node(net: Network) -> list[str]:
    """A node with two cores."""
    return [f"--address={address(net)}", "--num-cpus=2"]


def address(net: Network) -> str:
    """Where the head listens."""
    return f"{net.hosts[0].address}:{PORT}"


def start_ray(host: Host, *role: str) -> None:
    """Start Ray on a host."""
    own = [f"--node-ip-address={host.address}", "--object-store-memory=80000000"]
    done = host.run(Path(RAY).parent / "ray", "start", *role, *own, "--disable-usage-stats")
    assert done.returncode == 0, done.stderr


@pytest.fixture
def begin(net, launch):
    """A run from the head's host with these options of the launcher."""

    def start(settings: tuple[str, ...], *words: str):
        told = options(f"address={address(net)}", *settings)
        return launch(net, told, *words, python=RAY)

    return start


def options(*settings: str) -> list[str]:
    """The launcher with these."""
    return ["--launcher", "ray", *(word for one in settings for word in ("--launcher-set", one))]


def left(net: Network) -> bool:
    """Whether any process of a run is on any host."""
    return not clean(net.hosts)


def working(net: Network) -> bool:
    """Whether both nodes run workers."""
    return all(host.processes("trt_dp.worker") for host in net.hosts[1:])


def test_ray_brings_two_hosts(net, begin, tmp_path, local_sha):
    """The results are byte-equal, both hosts took part, and nothing of the run is left."""
    said = finish(begin(TWO, *SLOW))
    assert "n1 (" in said
    assert "n2 (" in said
    assert sha(tmp_path / "run") == local_sha
    wait_until(lambda: not left(net), 20)


def test_an_actor_that_is_killed_loses_no_request(net, begin, tmp_path, local_sha):
    """Its host is lost, what was in flight there runs elsewhere, and its workers leave."""
    process = begin(TWO, *STEADY)
    wait_until(lambda: working(net))
    assert net.hosts[2].kill("ray::Keeper")
    assert "the host n2 is lost" in finish(process)
    assert sha(tmp_path / "run") == local_sha
    wait_until(lambda: not left(net), 20)


def test_a_killed_coordinator_leaves_nothing_of_the_run_in_ray(net, begin):
    """Ray gets its places back, and no agent, guard or worker is left."""
    begin(TWO, "--set", "step_seconds=0.3")
    wait_until(lambda: working(net))
    net.hosts[0].kill("trt_dp run")
    wait_until(lambda: not left(net), 20)


def test_what_ray_lacks_is_told(begin):
    """No node has eight GPUs, and the run does not wait for one."""
    said = finish(begin(("gpus=8", 'resources={"rack": 2}', "seconds=2")), 1)
    assert "Ray placed 0 of 1 agents in 2 s" in said
    assert "8 GPUs, 1 CPUs and 2 rack free" in said
    assert "2 GPUs, 2 CPUs and 1 rack" in said


def test_agents_share_a_gpu_of_ray(net, begin, tmp_path, local_sha):
    """Two agents have halves of a GPU, of a core and of a resource of the cluster's own."""
    half = ("agents=2", "gpus=0.5", "cores=0.5", 'resources={"rack": 0.5}')
    said = finish(begin(half, *SLOW))
    assert "n1 (GPU 0): worker" in said
    assert "n1-2 (GPU 0): worker" in said
    assert "n2 (" not in said
    assert sha(tmp_path / "run") == local_sha
    wait_until(lambda: not left(net), 20)


def test_a_node_that_joins_ray_late_takes_part(net, begin, tmp_path, local_sha):
    """An agent that found no place is placed on a new node, and gets workers while the run goes on."""
    slow = ("--set", "step_seconds=0.25", "--set", "batch=8")
    process = begin(("agents=3", "cores=2"), *slow)
    wait_until(lambda: answering(tmp_path))
    with net.guest() as late:
        start_ray(late, *as_node(net))
        said = finish(process)
        assert "n3 (" in said
        assert sha(tmp_path / "run") == local_sha
        wait_until(lambda: not left(net), 20)


def test_a_run_can_be_a_job_of_ray(net, requests, tmp_path, local_sha):
    """Under `ray job submit` the coordinator needs no address, and agents see the GPUs that they were given."""
    line = [RAY, "-m", "trt_dp", "run", requests, "--engine", "echo", "--no-timing", "--plain"]
    line += ["--output", tmp_path / "run", *options("gpus=2"), *SLOW]
    where = f"http://{net.hosts[0].address}:8265"
    submit = [Path(RAY).parent / "ray", "job", "submit", "--address", where, "--", *line]
    done = net.hosts[0].run(*submit)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "n1 (GPUs 0, 1): workers 0 to 1" in done.stdout
    assert [host["host"] for host in report(tmp_path)["hosts"]] == ["n1"]
    assert sha(tmp_path / "run") == local_sha
    wait_until(lambda: not left(net), 20)


def test_a_pulled_cable_loses_no_request_of_ray(net, begin, tmp_path, local_sha):
    """The host is lost at once; Ray itself takes that node to be alive for a minute, so this test is the last."""
    slow = ("--set", "step_seconds=0.4", "--set", "batch=8")
    with net.guest() as late:
        start_ray(late, *as_node(net))
        process = begin(("agents=3", "cores=2"), *slow)
        wait_until(lambda: answering(tmp_path, 6))
        late.cut()
        assert "the host n3 is lost, with 2 workers" in finish(process)
        assert sha(tmp_path / "run") == local_sha
        wait_until(lambda: not left(net), 30)
