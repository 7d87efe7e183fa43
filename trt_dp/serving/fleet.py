"""Servers that run: each under a guard, looked at again and again, started again when it dies, ended together."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from types import TracebackType

from msgspec import Struct
from typing_extensions import Self

from trt_dp.errors import NoServersLeft
from trt_dp.placement.environment import clean
from trt_dp.serving.launch import Launch, Layout
from trt_dp.serving.post import Limits, Post
from trt_dp.system import shared_memory
from trt_dp.system.exit_status import end_of_process
from trt_dp.system.guarded import Guarded
from trt_dp.system.last_words import last_words, log_size
from trt_dp.system.safe_text import brief
from trt_dp.web import Client, Exchange, target
from trt_dp.web import Limits as Patience

_LOADING_LOOK, _READY_LOOK = 0.2, 1.0
_MOST_PATIENCE = 10.0  # for an answer about health
_KILLED_SECONDS = 30.0
_SOON = 0.01
_TEMPORARY = "trt-dp-"  # short: a path to a socket has 107 letters at most
_FROM_OUTSIDE = (-signal.SIGKILL, -signal.SIGTERM)  # its log does not tell why


class View(Struct, frozen=True):
    """What a person sees of one server."""

    launch: Launch
    state: str
    seconds: float  # in this state
    restarts: int
    reason: str  # of its last death


class Fleet:
    """All servers of one layout; `tick` often. Nothing of it is left when it is closed, or when this process dies."""

    def __init__(
        self, layout: Layout, limits: Limits, say: Callable[[str], None] = lambda _: None
    ) -> None:
        self.layout, self._say = layout, say
        self._client = Client()
        self._houses = [_House(launch, limits, self._client) for launch in layout.launches]
        self._servers = [house for house in self._houses if not house.launch.proxy]

    def __enter__(self) -> Self:
        """Start all."""
        for house in self._houses:
            house.write_files()
        self.tick(0)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End all."""
        self.close()

    @property
    def ready(self) -> bool:
        """Whether every server that is not retired can be used, and there is one."""
        return _all_ready(self._houses)

    def views(self) -> list[View]:
        """How each is."""
        now = time.monotonic()
        return [house.view(now) for house in self._houses]

    def tick(self, seconds: float) -> None:
        """Look at all and do what is due, for about so long; raises NoServersLeft once none is started again."""
        held = not _all_ready(self._servers)
        for house in self._houses:
            if held and house.launch.proxy and not house.post.starts:
                continue  # it would take servers that still load for dead ones
            for news in house.tick(time.monotonic()):
                self._say(news)
        for reply in self._client.poll(seconds):
            house = reply.exchange.tag
            if news := house.hear(reply.status if reply.fault is None else 0, reply.number):
                self._say(news)
        self._check_left()

    def wait_ready(self, stopping: Sequence[object] = ()) -> bool:
        """Until all can be used; False if `stopping` gets something first. Raises NoServersLeft."""
        while not self.ready:
            if stopping:
                return False
            self.tick(_LOADING_LOOK)
        return True

    def close(self) -> None:
        """Kill all, and wait until the kernel says that nothing is left of them."""
        for house in self._houses:
            house.kill()
        until = time.monotonic() + _KILLED_SECONDS
        while time.monotonic() < until and any(house.runs for house in self._houses):
            time.sleep(_SOON)
        for house in self._houses:
            shared_memory.remove(house.launch.shared)
        self._client.close()

    def _check_left(self) -> None:
        if all(house.post.over for house in self._servers):
            house = self._servers[0]
            msg = f"no server is left. {house.launch.name}: {house.post.reason}. Log: {house.launch.log}"
            raise NoServersLeft(msg)


class _House:
    """A post with its process and its health."""

    def __init__(self, launch: Launch, limits: Limits, client: Client) -> None:
        self.launch, self.post = launch, Post(limits)
        self._client = client
        seconds = min(_MOST_PATIENCE, max(1.0, limits.silent_seconds))
        self._patience = Patience(
            connect_seconds=seconds, silent_seconds=seconds, total_seconds=seconds
        )
        self._process: Guarded | None = None
        self._asked: int | None = None  # the number of the question that is open
        self._ask_at = 0.0
        self._logged = 0

    @property
    def runs(self) -> bool:
        """Whether anything is left of its process."""
        return self._process is not None and self._process.poll() is None

    def view(self, now: float) -> View:
        """How it is."""
        post = self.post
        restarts = max(0, post.starts - 1)
        return View(self.launch, post.state, now - post.since, restarts, post.reason)

    def write_files(self) -> None:
        """Make its folder, with all that is to be in it."""
        self.launch.folder.mkdir(parents=True, exist_ok=True)
        for name, text in self.launch.files.items():
            path = self.launch.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def tick(self, now: float) -> list[str]:
        """Do what is due; returns what a person should hear."""
        news = [self._bury(now)] if self._process and not self.runs else []
        act = self.post.act(now)
        if act == "start":
            self._start()
        if act == "kill":
            news.append(f"{self.launch.name}: {self.post.reason}; it is killed")
            self.kill()
        if self.runs and self._asked is None and now >= self._ask_at:
            self._ask()
        return news

    def hear(self, status: int, number: int) -> str | None:
        """The answer to a question about its health; 0 is none."""
        if number != self._asked:
            return None  # asked of a process that has died since
        now, before = time.monotonic(), self.post.state
        self._asked = None
        (self.post.healthy if status == 200 else self.post.unhealthy)(now)
        self._ask_at = now + (_READY_LOOK if self.post.state == "ready" else _LOADING_LOOK)
        return self._news(before)

    def kill(self) -> None:
        """End it and all that it started."""
        if self._process:
            self._process.kill()

    def _news(self, before: str) -> str | None:
        state = self.post.state
        if state == before:
            return None
        return f"{self.launch.name} is {state}: {self.launch.url}" if state == "ready" else None

    def _start(self) -> None:
        launch = self.launch
        self._logged, self._asked, self._ask_at = log_size(launch.log), None, 0.0
        temporary = tempfile.mkdtemp(prefix=_TEMPORARY) if launch.temporary else ""
        environment = {**clean(os.environ), **launch.environment}
        environment |= {launch.temporary: temporary} if temporary else {}
        shared_memory.remove(launch.shared)
        self._process = Guarded(launch.command, environment, launch.cores, launch.log, temporary)

    def _ask(self) -> None:
        where, path = target(self.launch.url), self.launch.health
        exchange = Exchange(to=where, path=path, method="GET", tag=self, limits=self._patience)
        self._asked = self._client.submit(exchange)

    def _bury(self, now: float) -> str:
        status = self._process.poll() if self._process else None
        self._process = None
        said = "" if status in _FROM_OUTSIDE else brief(last_words(self.launch.log, self._logged))
        ended = end_of_process(status)
        self.post.died(f"{ended}: {said}" if said else ended, now)
        next_ = "retired" if self.post.over else "it is started again"
        return f"{self.launch.name} died: {self.post.reason}; {next_}"


def _all_ready(houses: Sequence[_House]) -> bool:
    """Whether all that are not retired can be used, and there is one."""
    states = [house.post.state for house in houses if not house.post.over]
    return bool(states) and all(state == "ready" for state in states)
