"""The place of one server, and what to do about it: decided from what was seen of it, without touching anything."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

State = Literal["waiting", "loading", "ready", "silent", "ending", "retired"]
Act = Literal["start", "kill"]
_STEADY_SECONDS = 60.0  # ready for so long, its earlier deaths are forgotten
_LOADING_DEATHS = 2  # what fails to load twice fails always, and loading may take minutes
_LONGEST_WAIT = 30.0


class Limits(Struct, frozen=True, kw_only=True):
    """How patient to be with servers."""

    load_seconds: float = 1800.0
    silent_seconds: float = 60.0
    max_restarts: int = 5


class Post:
    """One server: waiting to be started, loading, ready, silent (it stopped to answer), ending, or retired.

    `see` is told of its process and of its health; what it returns is to be done at once.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.state: State = "waiting"
        self.since = 0.0
        self.deaths = 0  # in a row
        self.starts = 0
        self.was_ready = False
        self.reason = ""  # of the last death
        self._start_at = 0.0

    @property
    def over(self) -> bool:
        """Whether it is not started again."""
        return self.state == "retired"

    def act(self, now: float) -> Act | None:
        """What its state asks for by now."""
        lasted = now - self.since
        if self.state == "waiting" and now >= self._start_at:
            self.starts += 1
            self._enter("loading", now)
            return "start"
        if self.state == "loading" and lasted > self._limits.load_seconds:
            return self._give_up(f"it was not ready after {self._limits.load_seconds:g} s", now)
        if self.state == "silent" and lasted > self._limits.silent_seconds:
            return self._give_up(f"it did not answer for {self._limits.silent_seconds:g} s", now)
        if self.state == "ready" and lasted > _STEADY_SECONDS:
            self.deaths = 0
        return None

    def healthy(self, now: float) -> None:
        """It answered as a healthy server does."""
        if self.state in ("loading", "silent"):
            self.was_ready = True
            self._enter("ready", now)

    def unhealthy(self, now: float) -> None:
        """It did not answer, or not as it should; it may be loading."""
        if self.state == "ready":
            self._enter("silent", now)

    def died(self, reason: str, now: float) -> None:
        """Its process has ended."""
        loading = self.state == "loading"
        self.reason = self.reason if self.state == "ending" else reason
        self.deaths += 1
        most = self._limits.max_restarts
        if loading and not self.was_ready:
            most = min(most, _LOADING_DEATHS - 1)
        if self.deaths > most:
            self._enter("retired", now)
        else:
            self._enter("waiting", now)
            self._start_at = now + min(_LONGEST_WAIT, 2.0 ** (self.deaths - 1) - 1)

    def _give_up(self, reason: str, now: float) -> Act:
        self.reason = reason
        self._enter("ending", now)
        return "kill"

    def _enter(self, state: State, now: float) -> None:
        self.state, self.since = state, now
