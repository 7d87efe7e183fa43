"""Which request goes now, and to which endpoint: the one with the fewest requests in flight (pure)."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

_NEVER = 60.0


class Pace:
    """Requests in order: a closed loop keeps `concurrency` in flight, an open loop sends each when it is due."""

    def __init__(
        self, requests: int, endpoints: int, concurrency: int | None, due: Sequence[float] = ()
    ) -> None:
        self._left = deque(range(requests))
        self._concurrency = concurrency
        self._due = due
        self.in_flight = [0] * endpoints
        self._sent = [0] * endpoints

    def take(self, now: float) -> list[tuple[int, int]]:
        """The requests that go now, each with its endpoint; `now` is seconds since the first could go."""
        taken: list[tuple[int, int]] = []
        while self._left and self._may_go(now):
            endpoint = self._least_outstanding()
            self.in_flight[endpoint] += 1
            self._sent[endpoint] += 1
            taken.append((self._left.popleft(), endpoint))
        return taken

    def finished(self, endpoint: int) -> None:
        """A request of this endpoint ended, whichever way."""
        self.in_flight[endpoint] -= 1

    def wait(self, now: float) -> float:
        """How long nothing can be sent, unless a request ends before."""
        if self._concurrency is not None or not self._left:
            return _NEVER
        return max(0.0, self._due[self._left[0]] - now)

    def due(self, number: int) -> float | None:
        """When a request of an open loop should go."""
        return self._due[number] if self._concurrency is None else None

    @property
    def over(self) -> bool:
        """Whether all were sent and have ended."""
        return not self._left and not any(self.in_flight)

    def _may_go(self, now: float) -> bool:
        if self._concurrency is not None:
            return sum(self.in_flight) < self._concurrency
        return self._due[self._left[0]] <= now

    def _least_outstanding(self) -> int:
        """Among equals the one that was sent the fewest, so that a fast first endpoint does not get all."""
        return min(range(len(self._sent)), key=lambda i: (self.in_flight[i], self._sent[i], i))
