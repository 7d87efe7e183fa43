"""What the launcher ray refuses, and how it says what is missing, with a double of Ray."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import clusters
import pytest
from conftest import wait_until

from trt_dp.coordinator.workers.admission import Admission, Arrival
from trt_dp.errors import UsageError
from trt_dp.launchers.ray import launcher as launchers
from trt_dp.launchers.ray.launcher import RayLauncher
from trt_dp.launchers.ray.wish import RayWish, shortage
from trt_dp.wire import certificate
from trt_dp.wire.credentials import Credentials

NOWHERE = Credentials("127.0.0.1:9", "00" * 32)


@pytest.fixture(autouse=True)
def _ray(monkeypatch) -> None:
    clusters.pretend(monkeypatch, nodes="127.0.0.1")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "name the head of the Ray cluster"),
        ({"address": "auto"}, "name the head of the Ray cluster"),
        ({"address": "127.0.0.1:1"}, r"there is no Ray at 127\.0\.0\.1:1 \(.*refused"),
        ({"address": "127.0.0.1:99999"}, "there is no Ray at 127"),
        ({"address": "127.0.0.1:1", "agents": 0}, "at least one agent"),
        ({"address": "127.0.0.1:1", "gpus": -1}, "no negative number"),
        ({"address": "127.0.0.1:1", "cores": 0}, "cores or other resources for each"),
        ({"address": "127.0.0.1:1", "gpus": 1.5}, "gpus=1.5 is neither below 1 nor whole"),
        ({"address": "127.0.0.1:1", "resources": "rack"}, "are written as in resources="),
        ({"address": "127.0.0.1:1", "resources": '{"GPU": 1}'}, "gpus for what resources call GPU"),
    ],
)
def test_mistakes_are_told_before_anything_starts(options, sentence):
    """Ray itself would wait for minutes where nothing listens."""
    with pytest.raises(UsageError, match=sentence):
        RayLauncher(**options)


def test_without_ray_it_says_how_to_install_it(monkeypatch):
    """Ray is an extra."""
    monkeypatch.setattr(launchers.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"needs Ray: pip install .*'ray>="):
        RayLauncher(address="127.0.0.1:1")


def test_a_bundle_names_only_what_is_needed():
    """A wish for no GPU is no wish for a node with GPUs."""
    own = {"rack": 0.5}
    wish = RayWish(address="a:1", agents=2, gpus=0, cores=2, resources=own, seconds=60)
    assert wish.bundle == {"CPU": 2.0, "rack": 0.5}
    assert "Ray placed 1 of 2 agents in 60 s" in shortage(wish, 1, [])
    assert shortage(wish, 1, []).endswith("The cluster has: no node")


def test_a_job_of_ray_needs_no_address(monkeypatch):
    """Ray tells it in the environment of the job."""
    with clusters.ray_head() as head:
        monkeypatch.setenv("RAY_ADDRESS", head)
        assert RayLauncher().hosts == ["127.0.0.1"]


def told_by(launcher: RayLauncher) -> str:
    """Why it can bring no host."""
    told: list[object] = []
    wait_until(lambda: told.extend(launcher.poll()) or told)
    (one,) = told
    assert one.last
    return one.why


def test_what_the_cluster_lacks_is_told():
    """Instead of waiting for a node that never comes."""
    with clusters.ray_head() as head:
        launcher = RayLauncher(address=head, agents=2, gpus=8, seconds=0.1)
        launcher.begin(NOWHERE)
        why = told_by(launcher)
        launcher.close()
    assert "Ray placed 0 of 2 agents" in why
    assert "a node with 8 GPUs and 1 CPUs free. The cluster has: 0 GPUs and 4 CPUs" in why


def test_a_cluster_that_refuses_is_told_in_its_words(monkeypatch):
    """Another version of Ray or Python is one sentence, not a traceback."""
    monkeypatch.setattr(launchers, "_reach", lambda *_: "127.0.0.1")
    launcher = RayLauncher(address="127.0.0.1:1")
    launcher.begin(NOWHERE)
    said = "Ray lets nobody in: Version mismatch: the cluster has another Python"
    assert told_by(launcher) == said
    launcher.close()


def test_an_agent_that_finds_no_coordinator_is_told_in_its_own_words():
    """What the agent said on another node is what the user reads."""
    with clusters.ray_head() as head:
        launcher = RayLauncher(address=head)
        launcher.begin(NOWHERE)
        assert "trt-dp agent: " in told_by(launcher)
        launcher.close()


def test_agents_leave_before_their_places_are_given_back(monkeypatch, tmp_path):
    """Ray kills what still runs in a place that is given back, before it has ended its workers."""
    told = tmp_path / "told"
    monkeypatch.setenv("RAY_DOUBLE_TOLD", str(told))
    door = Admission("127.0.0.1", 0, certificate.make())
    with clusters.ray_head() as head, ThreadPoolExecutor() as threads:
        launcher = RayLauncher(address=head)
        launcher.begin(door.credentials)
        arrived: list[Arrival] = []
        wait_until(lambda: arrived.extend(door.arrivals()) or arrived)
        closing = threads.submit(launcher.close)
        time.sleep(1)  # the driver has read the end of its standard input, and the agent still runs
        arrived[0][1].close()
        closing.result()
    door.close()
    assert told.read_text() == "given back\n"
