"""Workers that have taken no requests for so long that nobody must wait for them. Pure: the clock is passed in."""

from __future__ import annotations

_PATIENCE_SECONDS = 30.0


class Absences:
    """A worker is present, paused (its capacity is 0), or absent after half a minute of that; then present again."""

    def __init__(self, patience_seconds: float = _PATIENCE_SECONDS) -> None:
        self._patience = patience_seconds
        self._paused: dict[int, float] = {}
        self._absent: set[int] = set()
        self._worked: float | None = None

    def takes(self, worker: int, capacity: int, now: float) -> int:
        """A worker's capacity changed; returns how many are back by that: 1 if it was absent."""
        if capacity:
            return self.lose(worker)
        self._paused.setdefault(worker, now)
        return 0

    def lose(self, worker: int) -> int:
        """A worker died, and is counted in other ways now; returns 1 if it was absent."""
        self._paused.pop(worker, None)
        was_absent = worker in self._absent
        self._absent.discard(worker)
        return int(was_absent)

    def overdue(self, now: float) -> int:
        """How many have become absent since this was asked last."""
        late = {one for one, since in self._paused.items() if now - since > self._patience}
        new = late - self._absent
        self._absent |= new
        return len(new)

    def idle_seconds(self, now: float, *, working: bool) -> float:
        """How long nobody has worked, asked again and again."""
        if working or self._worked is None:
            self._worked = now
        return now - self._worked
