"""What follows when an engine will not load in a worker: another try, a run with fewer workers, or its end."""

from __future__ import annotations

from trt_dp.coordinator.workers.crew import Crew
from trt_dp.errors import EngineRefused, UsageError
from trt_dp.wire.messages import Refused


class Refusals:
    """The refusals so far. A first one ends the run, unless workers may be missing (`allow_fewer`)."""

    def __init__(self, crew: Crew, *, allow_fewer: bool) -> None:
        self._crew = crew
        self._allow_fewer = allow_fewer
        self._reasons: dict[str, int] = {}

    def is_final(self, worker: int, refused: Refused, *, elsewhere: bool, together: bool) -> bool:
        """Whether the run does without this worker from now on, instead of starting it again.

        Raises EngineRefused, in the engine's words, where the run must end. `elsewhere`: workers of other hosts
        are ready. `together`: all step together, so that one after the other refuses and all start again each
        time; the same reason from two of them is not that of one place.
        """
        if refused.usage:
            raise UsageError(refused.message)
        if self._crew.has_loaded(worker) or elsewhere:
            return False
        first = self._reasons.setdefault(refused.message, worker)
        if not self._allow_fewer or self._crew.left < 2 or (together and first != worker):
            raise EngineRefused(refused.message)
        self._crew.give_up(worker)
        return True
