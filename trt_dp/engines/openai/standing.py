"""Whether a server is to be sent requests just now. Pure: the clock is passed in."""

from __future__ import annotations

import random

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0


class Standing:
    """A server is open, held (it asked for a pause), or away: then it must answer a canary before it is open again.

    Each failure in a row doubles the pause, up to half a minute; an answer ends the row.
    """

    def __init__(self) -> None:
        self.away = False
        self.why = ""
        self.pauses = 0
        self._until = 0.0
        self._row = 0

    def is_open(self, now: float) -> bool:
        """Whether requests may be sent."""
        return not self.away and now >= self._until

    def may_probe(self, now: float) -> bool:
        """Whether it is time to look whether a server that is away came back."""
        return self.away and now >= self._until

    def answered(self) -> None:
        """It works."""
        self._row = 0

    def came_back(self) -> None:
        """It answered the canary."""
        self.away = False

    def hold(self, now: float, wait_seconds: float | None, why: str) -> bool:
        """It is too busy: wait as long as it says. False if it paused already: what was sent before counts once."""
        first = now >= self._until
        if wait_seconds is not None:
            self._until = max(self._until, now + wait_seconds)
        elif first:
            self._until = now + self._pause()
        self.why = why
        self.pauses += first
        return first

    def leave(self, now: float, why: str) -> None:
        """It is gone, or fails whatever it is asked."""
        if not self.away or now >= self._until:
            self._until = now + self._pause()
        self.away, self.why = True, why

    def _pause(self) -> float:
        """With a share of chance, so that many clients do not come back in the same moment."""
        pause = min(_LONGEST_WAIT, _FIRST_WAIT * (1 << min(self._row, 10)))
        self._row += 1
        return pause * random.uniform(0.75, 1.0)  # noqa: S311 - not for secrets
