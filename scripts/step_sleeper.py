"""An engine that sleeps as long as a step model says, for real time beside virtual time; it has no model."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping

from trt_dp.types import EngineSpec, Placement, Request, Result


class StepSleeper:
    """Each step takes `step_ms` and `sequence_us` for each request in the batch, and gives each a token.

    Steps end by a clock that is not restarted, so that what a step costs the processor does not add up.
    """

    has_model = False

    def __init__(
        self,
        _spec: EngineSpec,
        _placement: Placement,
        *,
        slots: int = 16,
        ahead: int = 4,
        step_ms: float = 20.0,
        sequence_us: float = 500.0,
    ) -> None:
        self.capacity = slots + ahead
        self._slots, self._step, self._sequence = slots, step_ms / 1e3, sequence_us / 1e6
        self._waiting, self._left = deque(), {}
        self._ends = 0.0

    @staticmethod
    def deterministic(_options: Mapping[str, str]) -> bool:
        """An answer depends on its request alone."""
        return True

    def submit(self, request: Request) -> None:
        """Take a request."""
        self._waiting.append(request)

    def step(self) -> list[Result]:
        """Sleep for a step; returns those that have all their tokens now."""
        while self._waiting and len(self._left) < self._slots:
            request = self._waiting.popleft()
            self._left[request.index] = [request.output_tokens, request.output_tokens]
        self._sleep(self._step + self._sequence * len(self._left))
        for left in self._left.values():
            left[0] -= 1
        ended = {index: left[1] for index, left in self._left.items() if not left[0]}
        for index in ended:
            del self._left[index]
        return [Result(index, [1] * tokens) for index, tokens in ended.items()]

    def cancel(self, index: int) -> None:
        """Forget a request."""
        self._left.pop(index, None)
        self._waiting = deque(one for one in self._waiting if one.index != index)

    def close(self) -> None:
        """There is nothing to free."""

    def _sleep(self, seconds: float) -> None:
        now = time.perf_counter()
        began = self._ends if now - self._ends < self._step / 2 else now  # it was idle
        self._ends = began + seconds
        time.sleep(max(0.0, self._ends - now))
