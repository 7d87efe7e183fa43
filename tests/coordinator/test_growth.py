"""Which workers a run has as hosts join and are lost."""

from __future__ import annotations

import resource

import pytest

from trt_dp.coordinator import growth
from trt_dp.coordinator.growth import Growth, Shortage
from trt_dp.coordinator.reception import reception
from trt_dp.coordinator.workers.hosts import HostLost, Joined, Remark
from trt_dp.coordinator.workers.limits import Limits
from trt_dp.coordinator.workers.remote import Agent
from trt_dp.launchers.by_hand import ByHandLauncher
from trt_dp.placement.on_hosts import Wish
from trt_dp.system.machine import Machine
from trt_dp.wire.messages import Host

TWO_GPUS = Machine(gpus=("0", "1"), cores=(0, 1))
NO_GPU = Machine(gpus=(), cores=(0, 1))


class Grown:
    """A Growth, and what it said."""

    def __init__(self, *hosts: str, **wish: object) -> None:
        self.said: list[str] = []
        self.it = Growth(Wish(**wish), hosts, self.said.append)

    def join(self, name: str, machine: Machine = TWO_GPUS) -> Agent:
        self.agent = Agent(Host(name=name, version="1", machine=machine), name)
        self.workers = self._numbers([Joined(self.agent)])
        return self.agent

    def lose(self, agent: Agent) -> list[int]:
        return self._numbers([HostLost(agent, "it was unplugged")])

    def _numbers(self, news: list[object]) -> list[int]:
        return [place.worker for _, places in self.it.attend(news) for place in places]


def test_each_host_that_joins_gets_all_workers_that_fit():
    """Numbers go on from host to host, and each placement names its host."""
    grown = Grown("a", "b")
    grown.join("a")
    assert grown.workers == [0, 1]
    grown.join("b")
    assert grown.workers == [2, 3]
    assert [place.host for place in grown.it.placements] == ["a", "a", "b", "b"]
    assert grown.said == ["a (GPUs 0, 1): workers 0 to 1", "b (GPUs 0, 1): workers 2 to 3"]


def test_a_spare_host_takes_the_places_of_one_that_is_lost():
    """With enough workers a host waits; it gets new workers, with new numbers, when another goes."""
    grown = Grown("a", "b", workers=2)
    first = grown.join("a")
    grown.join("b")
    assert grown.workers == []
    assert grown.lose(first) == [2, 3]
    assert "the host a is lost, with 2 workers: it was unplugged" in grown.said


def test_a_host_without_what_is_needed_is_named_and_not_used():
    """The reason is in what the run says it is missing."""
    grown = Grown("a", "b", needs_gpu=True)
    grown.join("a", NO_GPU)
    assert grown.workers == []
    assert grown.said == ["no worker: a has no GPU, and the engine needs one"]
    assert grown.it.missing() == (
        "1 of 2 hosts joined; 0 of 1 hosts have a GPU free; a has no GPU, and the engine needs one"
    )


def test_a_lost_spare_host_is_forgotten():
    """It is counted no more, and brings nothing."""
    grown = Grown("a", "b", workers=1)
    grown.join("a")
    spare = grown.join("b")
    assert grown.it.complete
    assert grown.lose(spare) == []
    assert grown.it.missing() == "1 of 2 hosts joined"


def test_what_launchers_say_is_passed_on():
    """A starter that ended is told in its own words."""
    grown = Grown("a")
    grown.it.attend([Remark("a: no connection")])
    assert grown.said == ["a: no connection"]


@pytest.fixture
def clock(monkeypatch):
    """The time, as the test sets it."""

    class Clock:
        now = 100.0

        def monotonic(self) -> float:
            return self.now

    made = Clock()
    monkeypatch.setattr(growth, "time", made)
    return made


def test_a_shortage_ends_the_run_after_its_limit(clock):
    """It is told once, counted from its own beginning, and forgotten when workers are there."""
    said: list[str] = []
    shortage = Shortage(Limits(host_seconds=20, min_workers=2), said.append)
    assert not shortage.lasts(1, "1 of 2 hosts joined", hopeless=False)
    clock.now += 6
    assert not shortage.lasts(1, "1 of 2 hosts joined", hopeless=False)
    assert said == [
        "waiting for 2 workers, at most 20 s (--host-seconds): 1 of 2 hosts joined",
    ]
    assert not shortage.lasts(2, "", hopeless=False)
    clock.now += 30
    assert not shortage.lasts(1, "x", hopeless=False)
    clock.now += 21
    why = "fewer than 2 workers are left: x; waited 21 s"
    assert shortage.lasts(1, "x", hopeless=False) == why


def test_a_hopeless_shortage_ends_the_run_at_once():
    """Where nothing can bring a host any more, nobody waits."""
    shortage = Shortage(Limits(), lambda _: None)
    why = "there is no worker: 0 of 2 hosts joined; waited 0 s"
    assert shortage.lasts(0, "0 of 2 hosts joined", hopeless=True) == why


def test_many_hosts_find_room():
    """A run over hosts takes all descriptors that the system grants it; the usual ones are for some hundred hosts."""
    pytest.importorskip("cryptography")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        admission, _ = reception(ByHandLauncher(key_file="key"), "127.0.0.1")
        admission.close()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
