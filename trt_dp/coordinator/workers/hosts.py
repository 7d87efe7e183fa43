"""The hosts of a run: asked for, joined, and lost. Whoever starts their agents, each is one connection here."""

from __future__ import annotations

import contextlib
import selectors
import time
from importlib.metadata import version

from msgspec import Struct

from trt_dp.coordinator.workers.connection import Connection
from trt_dp.coordinator.workers.remote import Agent
from trt_dp.errors import ChannelClosed
from trt_dp.launchers import HostLauncher
from trt_dp.system.safe_text import brief
from trt_dp.wire.channel import Channel
from trt_dp.wire.credentials import Credentials
from trt_dp.wire.keepalive import ABSENT_SECONDS, give_up_silence
from trt_dp.wire.messages import Host, Ping, ToCoordinator, TurnedAway

_PING_SECONDS = 1.0
_SILENT_SECONDS = 12.0
_SILENT_AT_THE_END = 3.0  # all is answered: who is silent now has nothing to lose
_AWAY_SECONDS = 2.0


class Joined(Struct, frozen=True):
    """A host takes part from now on."""

    agent: Agent


class HostLost(Struct, frozen=True):
    """A host takes part no more."""

    agent: Agent
    why: str


class Remark(Struct, frozen=True):
    """What a user should know of a host that does not take part."""

    text: str


News = Joined | HostLost | Remark


class Hosts:
    """All hosts of a run; a run on this machine alone has none."""

    def __init__(self, launcher: HostLauncher | None = None) -> None:
        self._launcher = launcher
        self._divides_gpus = getattr(launcher, "divides_gpus", False)
        self._agents: list[Agent] = []
        self._news: list[News] = []
        self._looked = self._pinged = time.monotonic()
        self.exhausted = self._finishing = False

    @property
    def joined(self) -> list[Agent]:
        """Those that take part now."""
        return list(self._agents)

    def begin(self, door: Credentials) -> None:
        """Have the agents started."""
        if self._launcher:
            self._launcher.begin(door)

    def arrive(
        self, said: Host, channel: Channel[ToCoordinator], selector: selectors.BaseSelector
    ) -> None:
        """An agent has introduced its host: it takes part, or is told why not."""
        if refusal := self._refusal(said):
            self._news.append(Remark(refusal.reason))
            _turn_away(channel, refusal)
            return
        agent = Agent(said, self._free_name(said.name))
        give_up_silence(channel)
        self._agents.append(agent)
        agent.welcome(Connection(channel, selector, agent), ABSENT_SECONDS)
        self._news.append(Joined(agent))

    def look(self) -> list[Agent]:
        """Notice starters that ended and hosts that are silent; returns the hosts lost since the last look."""
        now = time.monotonic()
        self._excuse_absence(now)
        if self._launcher and not self._finishing:
            self._ask_launcher(self._launcher)
        if now - self._pinged >= _PING_SECONDS:
            self._pinged = now
            for agent in self._agents:
                agent.tell(Ping())
        for agent in self.joined:
            if now - agent.heard > (_SILENT_AT_THE_END if self._finishing else _SILENT_SECONDS):
                agent.lose("it is silent")
        return self._lost()

    def _lost(self) -> list[Agent]:
        lost = [agent for agent in self._agents if agent.connection is None]
        for agent in lost:
            self._agents.remove(agent)
            self._news.append(HostLost(agent, agent.why_lost))
        return lost

    def read(self) -> None:
        """Take in what all agents say, for those who wait for nothing else."""
        for agent in self._agents:
            agent.read(write=True)

    def news(self) -> list[News]:
        """What happened since the last call."""
        told, self._news = self._news, []
        return told

    def finish(self) -> None:
        """The work is done: nothing more is started."""
        self._finishing = True

    def close(self) -> None:
        """Let all hosts leave, and end what started them."""
        for agent in self._agents:
            agent.close()
        if self._launcher:
            self._launcher.close()
            self._launcher = None

    def _ask_launcher(self, launcher: HostLauncher) -> None:
        for ended in launcher.poll():
            self._news.append(Remark(f"{ended.name}: {brief(ended.why)}"))
            self.exhausted = ended.last

    def _excuse_absence(self, now: float) -> None:
        """When this process itself was away, its hosts were not silent: it was not listening."""
        away = now - self._looked
        if away > _AWAY_SECONDS:
            for agent in self._agents:
                agent.heard += away
        self._looked = now

    def _refusal(self, said: Host) -> TurnedAway | None:
        mine = version("trt-dp")
        if said.version != mine:
            return TurnedAway(
                f"{said.name} has trt-dp {said.version}, and the coordinator has {mine}: "
                "install the same version on all hosts"
            )
        for agent in [] if self._divides_gpus else self._agents:
            shared = set(agent.said.machine.gpus) & set(said.machine.gpus)
            if agent.said.name == said.name and shared:
                gpus = ", ".join(sorted(shared))
                return TurnedAway(f"{said.name} takes part already with GPUs {gpus}", again=True)
        return None

    def _free_name(self, name: str) -> str:
        """The host's name, with a number if another agent of it takes part already."""
        taken = {agent.name for agent in self._agents}
        names = (f"{name}-{number}" if number > 1 else name for number in range(1, len(taken) + 2))
        return next(one for one in names if one not in taken)


def _turn_away(channel: Channel[ToCoordinator], why: TurnedAway) -> None:
    with contextlib.suppress(ChannelClosed):
        channel.send(why)
    channel.close()
