"""How long a session will still take: looked at now and then, and counted down in between."""

from __future__ import annotations

from collections.abc import Callable

from trt_dp.coordinator.record.tally import Tally
from trt_dp.coordinator.remaining import Progress, Remaining

_EVERY_SECONDS = 2.0  # a look costs a few milliseconds


class Lookout:
    """Knows nothing at first; then the seconds that are left."""

    def __init__(self, remaining: Remaining, tally: Tally) -> None:
        self._remaining = remaining
        self._tally = tally
        self._looked = 0.0
        self._left: float | None = None

    def seconds(self, clock: Callable[[], float]) -> float | None:
        """How long it will take from now; None while too little is known."""
        now = clock()
        if now - self._looked >= _EVERY_SECONDS:
            self._looked, self._left = now, self._remaining.seconds(self._progress(now))
        return None if self._left is None else max(0.0, self._left - (now - self._looked))

    def _progress(self, now: float) -> Progress:
        tally = self._tally
        running, since = tally.in_flight()
        return Progress(
            now=now,
            began=now - tally.serving_seconds,
            was_sent=tally.was_sent,
            running=running,
            running_since=since,
            tokens=tally.output_tokens,
            wanted=tally.wanted_done,
            token_seconds=tally.token_seconds,
        )
