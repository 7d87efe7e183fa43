"""One worker as the coordinator counts it: its state, its requests and tokens, and how long it was idle."""

from __future__ import annotations

from trt_dp.report.columns import State
from trt_dp.report.sections import Account
from trt_dp.types import Facts


class Way:
    """Requests that went one way, and their input tokens."""

    def __init__(self) -> None:
        self.requests = self.input_tokens = 0

    def add(self, requests: int, input_tokens: int) -> None:
        """Add this many."""
        self.requests += requests
        self.input_tokens += input_tokens

    def account(self, *, tokens: bool = True) -> Account:
        """As in the report, with tokens or without."""
        return Account(requests=self.requests, input_tokens=self.input_tokens if tokens else 0)


class Lane:
    """A worker in one of its states: with requests in flight, or idle since a moment."""

    def __init__(self) -> None:
        self.state: State = "starting"
        self.output_tokens = self.deaths = self.in_flight = self.capacity = 0
        self.sent, self.answered, self.failed, self.lost = Way(), Way(), Way(), Way()
        self.load_seconds = 0.0
        self.facts: Facts = {}
        self.idle = 0.0
        self.idle_since: float | None = None
        self.unreplaced: int | None = None  # its last death, until its successor is sent requests

    def hold(self, change: int, now: float) -> None:
        """This many requests more are in flight, or fewer."""
        if self.in_flight and not self.in_flight + change:
            self.idle_since = now
        elif not self.in_flight and change > 0 and self.idle_since is not None:
            self.idle += now - self.idle_since
            self.idle_since = None
        self.in_flight += change
