"""How many requests to have in flight with one server: as many as make it faster. Pure: the clock is passed in."""

from __future__ import annotations

_FIRST, _MOST = 16, 1024
_BETTER = 1.1
_ROUNDS = 2  # as many answers as are in flight, so often: the first round still belongs to the level before
_LOOK_AGAIN_SECONDS = 60.0


class Concurrency:
    """Doubles while that makes answers come faster: a level costs two rounds of answers, which may be long ones.

    When the server says that it is too busy it is halved, and grows by one at a time from then on.
    """

    def __init__(self, fixed: int = 0) -> None:
        self.limit = self._before = fixed or _FIRST
        self._fixed = fixed
        self._grows = not fixed
        self._best = 0.0
        self._again_at = 0.0
        self._careful = False
        self._answers = self._tokens = 0
        self._since = 0.0

    def answered(self, tokens: int, now: float, *, full: bool) -> None:
        """An answer of so many tokens came; `full`: as many were in flight as the limit allows."""
        if self._fixed:
            return
        if not full:  # what is not used cannot be judged
            self._answers = 0
            return
        if not self._answers:
            self._since, self._tokens = now, 0
        self._answers += 1
        self._tokens += max(1, tokens)
        if self._answers == self.limit:  # the first round is over
            self._since, self._tokens = now, 0
        if self._answers > self.limit * _ROUNDS and now > self._since:
            self._judge(self._tokens / (now - self._since), now)

    def too_busy(self) -> None:
        """The server refused requests because it had too many."""
        self.limit = self._fixed or max(1, self.limit // 2)
        self._careful, self._answers = True, 0

    def _judge(self, speed: float, now: float) -> None:
        self._answers = 0
        if self._careful:
            self._set(self.limit + 1)
        elif self._grows and speed > self._best * _BETTER:
            self._best = speed
            self._grow(self.limit * 2)
        elif self._grows:
            self._grows, self._again_at = False, now + _LOOK_AGAIN_SECONDS
            self._set(self._before)
        elif now >= self._again_at:
            self._grows, self._best = not self._fixed, speed
            self._grow(self.limit + max(1, self.limit // 2))

    def _grow(self, limit: int) -> None:
        self._before = self.limit
        self._set(limit)

    def _set(self, limit: int) -> None:
        self.limit = min(_MOST, max(1, limit))
