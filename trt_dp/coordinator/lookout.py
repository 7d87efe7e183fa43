"""How long a session will still take: looked at now and then, and counted down in between."""

from __future__ import annotations

from collections.abc import Callable

from trt_dp.coordinator.record.journal import Journal
from trt_dp.coordinator.record.tally import Tally
from trt_dp.coordinator.remaining import Progress, Remaining

_REQUESTS_A_SECOND = (
    200_000.0  # a look costs about 50 ns for each request: at most a hundredth of the time
)


class Lookout:
    """Knows nothing at first; then the seconds that are left."""

    def __init__(self, remaining: Remaining, journal: Journal, tally: Tally) -> None:
        self._remaining = remaining
        self._journal = journal
        self._tally = tally
        self._every = max(1.0, len(journal.failed) / _REQUESTS_A_SECOND)
        self._looked = 0.0
        self._left: float | None = None

    def seconds(self, clock: Callable[[], float]) -> float | None:
        """How long it will take from now; None while too little is known."""
        now = clock()
        if now - self._looked >= self._every:
            self._looked, self._left = now, self._remaining.seconds(self._progress(now))
        return None if self._left is None else max(0.0, self._left - (now - self._looked))

    def _progress(self, now: float) -> Progress:
        tally = self._tally
        return Progress(
            now=now,
            began=now - tally.serving_seconds,
            sent_at=tally.sent_at,
            completed=self._journal.completed,
            tokens=tally.output_tokens,
            wanted=tally.wanted_done,
            token_seconds=tally.token_seconds,
        )
