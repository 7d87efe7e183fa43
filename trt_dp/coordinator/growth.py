"""Which workers a run has as hosts join and are lost: who gets how many is decided here, from what hosts say."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from trt_dp.coordinator.workers.hosts import HostLost, Joined, News
from trt_dp.coordinator.workers.limits import Limits
from trt_dp.coordinator.workers.remote import Agent
from trt_dp.errors import PlacementError
from trt_dp.placement.on_hosts import Turn, Wish, plan_host
from trt_dp.system.machine import Machine
from trt_dp.types import Placement

_PATIENCE_SECONDS = 5.0

Say = Callable[[str], None]
Grown = list[tuple[Agent, tuple[Placement, ...]]]


class Growth:
    """The hosts of a run: each has workers, or is spare until another is lost.

    `placements` are those of all workers that there ever were, by number.
    """

    def __init__(self, wish: Wish, hosts: Sequence[str], say: Say) -> None:
        self.placements: list[Placement] = []
        self._wish = wish
        self._expected = len(hosts)
        self._say = say
        self._working: dict[Agent, int] = {}
        self._spare: list[Agent] = []
        self._without: dict[str, str] = {}
        self._gpuless: set[str] = set()

    def attend(self, news: Sequence[News]) -> Grown:
        """What hosts bring: the places of new workers, with the host of each."""
        for one in news:
            if isinstance(one, Joined):
                self._spare.append(one.agent)
            elif isinstance(one, HostLost):
                self._lose(one)
            else:
                self._say(one.text)
        return self._place() if news else []

    @property
    def complete(self) -> bool:
        """Whether every host that is expected has joined."""
        return 0 < self._expected <= len(self._working) + len(self._spare)

    def missing(self) -> str:
        """What there is, for a run that has too few workers."""
        joined = len(self._working) + len(self._spare)
        expected = f"{joined} of {max(self._expected, joined)} hosts joined"
        return "; ".join([expected, *self._short_of_gpus(joined), *sorted(self._without.values())])

    def _short_of_gpus(self, joined: int) -> list[str]:
        """How many hosts have the GPUs that are needed, where some have not."""
        if not self._gpuless:
            return []
        needed = self._wish.gpus_per_worker or 1
        what = "a GPU" if needed == 1 else f"{needed} GPUs"
        return [f"{joined - len(self._gpuless)} of {joined} hosts have {what} free"]

    def _place(self) -> Grown:
        grown: Grown = []
        for agent in list(self._spare):
            if self._wanted() == 0:
                break
            if places := self._places_on(agent):
                self._spare.remove(agent)
                self._working[agent] = len(places)
                self.placements += places
                grown.append((agent, places))
        return grown

    def _places_on(self, agent: Agent) -> tuple[Placement, ...]:
        sharers = max(1, self._expected - len(self._working))
        turn = Turn(len(self.placements), self._wanted(), sharers)
        try:
            plan = plan_host(agent.name, agent.said.machine, self._wish, turn)
        except PlacementError as error:
            if agent.name not in self._without:
                self._say(f"no worker: {error}")
            self._without[agent.name] = str(error)
            if len(agent.said.machine.gpus) < (self._wish.gpus_per_worker or self._wish.needs_gpu):
                self._gpuless.add(agent.name)
            return ()
        self._say(told(agent.name, agent.said.machine, plan.placements))
        return plan.placements

    def _wanted(self) -> int | None:
        """How many workers are still to be placed; None for as many as fit."""
        if self._wish.workers is None:
            return None
        return max(0, self._wish.workers - sum(self._working.values()))

    def _lose(self, lost: HostLost) -> None:
        agent = lost.agent
        self._without.pop(agent.name, None)
        self._gpuless.discard(agent.name)
        workers = self._working.pop(agent, 0)
        if agent in self._spare:
            self._spare.remove(agent)
        then = f", with {workers} worker{'s' * (workers > 1)}" if workers else ""
        self._say(f"the host {agent.name} is lost{then}: {lost.why}")


class Shortage:
    """Whether a run has had too few workers for too long."""

    def __init__(self, limits: Limits, say: Say) -> None:
        self._limits = limits
        self._say = say
        self._since: float | None = None
        self._said = False

    def lasts(self, workers: int, missing: str, *, hopeless: bool) -> str:
        """Why the run must stop, if it must: `workers` are left, and this is missing."""
        if workers >= self._limits.min_workers:
            self._since = None
            return ""
        now = time.monotonic()
        if self._since is None:
            self._since, self._said = now, False
        waited = now - self._since
        if not hopeless and waited < self._limits.host_seconds:
            self._tell(waited, missing)
            return ""
        least = self._limits.min_workers
        wanted = f"fewer than {least} workers are left" if least > 1 else "there is no worker"
        return f"{wanted}: {missing}; waited {waited:.0f} s"

    def _tell(self, waited: float, missing: str) -> None:
        """Say once what the run waits for, when it has waited for a moment."""
        if self._said or waited < _PATIENCE_SECONDS:
            return
        self._said = True
        least, seconds = self._limits.min_workers, self._limits.host_seconds
        wanted = "a worker" if least == 1 else f"{least} workers"
        self._say(f"waiting for {wanted}, at most {seconds:.0f} s (--host-seconds): {missing}")


def told(name: str, machine: Machine, placements: Sequence[Placement]) -> str:
    """A host and its workers, in a line."""
    first, last = placements[0].worker, placements[-1].worker
    who = f"workers {first} to {last}" if last > first else f"worker {first}"
    return f"{name} ({devices(machine.gpus, machine.cores)}): {who}"


def devices(gpus: Sequence[str], cores: Sequence[int]) -> str:
    """GPUs by name; where there are none, how many cores."""
    if gpus:
        return f"GPU{'s' * (len(gpus) > 1)} {', '.join(gpus)}"
    return f"{len(cores)} core{'s' * (len(cores) > 1)}"
