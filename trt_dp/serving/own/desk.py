"""What is in flight: each call waits here for what the engine brings of its answers."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterable, Sequence

from msgspec import Struct

from trt_dp.errors import CallRefused
from trt_dp.serving.own.stepper import Events, Stepper
from trt_dp.types import Progress, Request, Result


class Flight(Struct):
    """The requests of one call: those that are `open` have no result yet."""

    requests: dict[int, Request]
    open: set[int]
    events: asyncio.Queue[Progress | Result]
    begun: float


class Desk:
    """Takes calls as long as there is room, and hands out what comes; an index is never used twice."""

    def __init__(self, stepper: Stepper, most: int) -> None:
        self._stepper, self._most = stepper, most
        self._numbers = itertools.count()
        self._flights: dict[int, Flight] = {}

    @property
    def in_flight(self) -> int:
        """How many answers are not complete."""
        return len(self._flights)

    def number(self) -> int:
        """The index of the next row."""
        return next(self._numbers)

    def check(self, answers: int) -> None:
        """Raises CallRefused for a call that asks for more answers than ever fit; asked before it has requests."""
        if answers > self._most:
            msg = f"{answers:,} answers at once, and this server takes {self._most:,}"
            raise CallRefused(400, msg)

    def open(self, requests: Sequence[Request], *, streamed: bool) -> Flight:
        """Have these answered; raises CallRefused where there is no room for them."""
        if len(self._flights) + len(requests) > self._most:
            raise CallRefused(
                429,
                f"{len(self._flights):,} answers are in flight, which is all that fits: try again",
            )
        indexes = [request.index for request in requests]
        flight = Flight(
            requests=dict(zip(indexes, requests, strict=True)),
            open=set(indexes),
            events=asyncio.Queue(),
            begun=time.monotonic(),
        )
        self._flights.update(dict.fromkeys(indexes, flight))
        self._stepper.submit(requests, streamed=streamed)
        return flight

    def close(self, flight: Flight) -> None:
        """Forget a call; nobody wants what is not complete of it."""
        if flight.open:
            self._forget(flight.open)
            self._stepper.drop(list(flight.open))
            flight.open.clear()

    def deliver(self, events: Events) -> None:
        """Hand out what a step brought."""
        for event in events:
            flight = self._flights.get(event.index)
            if flight is None:
                continue
            if isinstance(event, Result):
                flight.open.discard(event.index)
                self._forget([event.index])
            flight.events.put_nowait(event)

    def _forget(self, indexes: Iterable[int]) -> None:
        for index in indexes:
            self._flights.pop(index, None)
