"""The models that requests are spread over, on one server or several: the one with the fewest in flight is next."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from trt_dp.engines.triton.described import Model
from trt_dp.engines.triton.transport import Problem
from trt_dp.types import Blame

_SUSPICIOUS = 3  # errors in a row, none of which need be the request's fault
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 15.0
_DOUBT_SECONDS = 5.0
_HANGING = 2  # questions without an answer
_ROOM_BACK = 16  # answers until a busy model is tried with one request more


class Lane:
    """One model of one server: up, busy for a moment, or down until a probe has had an answer.

    `allowed` is how many requests it gets at once: less after it had no room, one more after every few answers.
    Only the engine's thread changes it, except that the probe's thread may bring it up.
    """

    def __init__(self, url: str, model: Model, most: int) -> None:
        self.url, self.model = url, model
        self.in_flight = 0
        self.answered = 0
        self.up = True
        self.dead = False  # a probe found that it cannot answer what it has
        self.why = ""
        self._heard = 0.0  # when it last took or ended a request, or a probe had an answer
        self.allowed = self._most = most
        self._failures = self._silences = 0
        self._pause = _FIRST_PAUSE
        self._rests_until = 0.0

    def __str__(self) -> str:
        """Where it is, for messages."""
        return f"{self.model.name} at {self.url}"

    def room(self, now: float) -> int:
        """How many more requests it takes now."""
        open_now = self.up and now >= self._rests_until
        return max(0, self.allowed - self.in_flight) if open_now else 0

    @property
    def rested(self) -> bool:
        """Whether it is time to look at it again."""
        return time.monotonic() >= self._rests_until

    @property
    def in_doubt(self) -> bool:
        """Whether it has been silent for so long, with requests in flight, that it should be looked at."""
        return self.up and self.in_flight > 0 and time.monotonic() - self._heard > _DOUBT_SECONDS

    def take(self) -> None:
        """It gets a request."""
        self.in_flight += 1
        if self.in_flight == 1:
            self._heard = time.monotonic()

    def give(self) -> None:
        """A request is no longer in flight there."""
        self.in_flight -= 1
        self._heard = time.monotonic()

    def answer(self) -> None:
        """It answered a request."""
        self.answered += 1
        self._failures, self._pause = 0, _FIRST_PAUSE
        if self.allowed < self._most and self.answered % _ROOM_BACK == 0:
            self.allowed += 1

    def trouble(self, problem: Problem) -> Blame:
        """It had no answer; returns whether that counts against the request."""
        if problem.trouble == "busy":
            self._make_room(problem.pause_seconds)
            return "none"
        if problem.trouble in ("away", "gone", "lost", "silent"):
            self.leave(problem.message)
            return "none"
        self._failures += 1
        if self._failures < _SUSPICIOUS:
            return "request"
        self.leave(problem.message)
        return "none"

    def _make_room(self, seconds: float) -> None:
        """Its queue is full: fewer at once, and nothing for a moment if it has none of ours."""
        self.allowed = max(1, min(self.allowed, self.in_flight))
        if seconds or not self.in_flight:
            self._rest(seconds)

    def leave(self, why: str) -> None:
        """It gets nothing until a probe has had an answer."""
        if self.up:
            self.up, self.why = False, why
            self._rest()

    def stay_away(self, problem: Problem) -> None:
        """A probe had no answer. One that is only slow may be busy with what it has."""
        self._heard = time.monotonic()
        self._silences = self._silences + 1 if problem.trouble == "silent" else 0
        if problem.trouble in ("away", "gone") or self._silences >= _HANGING:
            self.why, self.dead, self.up = problem.message, True, False
        if not self.up:
            self._rest()

    def come_back(self) -> None:
        """A probe had an answer: what failed before is the fault of the requests."""
        self._heard, self._silences = time.monotonic(), 0
        if not self.up:
            self._failures, self._rests_until, self.dead, self.up = 0, 0.0, False, True

    def _rest(self, seconds: float = 0.0) -> None:
        self._rests_until = time.monotonic() + (seconds or self._pause)
        self._pause = min(_LONGEST_PAUSE, 2 * self._pause)


class Lanes:
    """All of them. Nothing is sent to one that is down; with all down for too long, `capacity` raises."""

    def __init__(
        self,
        lanes: Sequence[Lane],
        away_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lanes = list(lanes)
        self._away = away_seconds
        self._clock = clock
        self._dark_since: float | None = None
        self._turn = 0

    def __iter__(self) -> Iterator[Lane]:
        """Each of them."""
        return iter(self._lanes)

    def choose(self) -> Lane | None:
        """The one with room and the fewest requests; in turn where several have as few."""
        now = self._clock()
        self._turn += 1
        turned = self._lanes[self._turn % len(self._lanes) :] + self._lanes
        open_now = [lane for lane in turned[: len(self._lanes)] if lane.room(now)]
        return min(open_now, key=lambda lane: lane.in_flight, default=None)

    @property
    def capacity(self) -> int:
        """How many requests are wanted in flight; raises RuntimeError once all were down for too long."""
        now = self._clock()
        total = sum(lane.in_flight + lane.room(now) for lane in self._lanes)
        if any(lane.up for lane in self._lanes):
            self._dark_since = None
            return total
        self._dark_since = self._dark_since or now
        if now - self._dark_since > self._away:
            msg = f"no model has answered for {self._away:g} s: {self.complaints()}"
            raise RuntimeError(msg)
        return total

    def complaints(self) -> str:
        """Why those that are down are down."""
        return "; ".join(f"{lane}: {lane.why}" for lane in self._lanes if not lane.up)
