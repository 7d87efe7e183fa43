"""When a run that was asked to stop does so."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter


class Stopping:
    """After a signal, a run stops when its grace time is over, or at once after a second signal."""

    def __init__(self, signals: Sequence[int], grace_seconds: float) -> None:
        self._signals = signals
        self._grace_seconds = grace_seconds
        self._deadline: float | None = None

    @property
    def begun(self) -> bool:
        """Whether the run is stopping: it sends no more requests."""
        return self._deadline is not None

    def begins(self) -> bool:
        """Whether the first signal came since the last look."""
        if self.begun or not self._signals:
            return False
        self._deadline = perf_counter() + self._grace_seconds
        return True

    def over(self, in_flight: int) -> bool:
        """Whether a run that is stopping has nothing left to wait for."""
        if self._deadline is None:
            return False
        return not in_flight or len(self._signals) > 1 or perf_counter() > self._deadline


def told(in_flight: int) -> str:
    """What a run that begins to stop says."""
    return f"Stopping: finishing {in_flight:,} requests in flight. Press Ctrl-C again to stop now"
