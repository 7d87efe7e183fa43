"""When a run that was asked to stop does so."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter


class Stopping:
    """A run is wanted, until a signal is noted; then it stops after a grace, or at once after a second signal."""

    def __init__(self, signals: Sequence[int], grace_seconds: float) -> None:
        self._signals = signals
        self._grace_seconds = grace_seconds
        self._deadline: float | None = None

    @property
    def begun(self) -> bool:
        """Whether the run is stopping: it sends no more requests."""
        return self._deadline is not None

    def begins(self) -> bool:
        """Whether a signal was noted since the last look, for the first time."""
        if self.begun or not self._signals:
            return False
        self._deadline = perf_counter() + self._grace_seconds
        return True

    def over(self, in_flight: int) -> bool:
        """Whether a run that is stopping waits for nothing more."""
        if self._deadline is None:
            return False
        return not in_flight or len(self._signals) > 1 or perf_counter() > self._deadline
