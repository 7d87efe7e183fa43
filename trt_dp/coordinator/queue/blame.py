"""What is to blame for the deaths of workers: the requests that are given up, or the engine."""

from __future__ import annotations

from trt_dp.types import Failure

_GIVEN_UP_IN_A_ROW = 64


class Blame:
    """Requests are to blame until many are given up with no answer between them: then the engine is."""

    def __init__(self) -> None:
        self._in_a_row = 0

    def answered(self) -> None:
        """The engine works."""
        self._in_a_row = 0

    def give_up(self, requests: int) -> bool:
        """These are given up; returns whether they are to blame, and so no worker is."""
        self._in_a_row += requests
        return bool(requests) and self._in_a_row < _GIVEN_UP_IN_A_ROW


def given_up(reason: str, deaths: int) -> Failure:
    """The failure of a request that was alone in workers when they died."""
    message = f"the worker died each time it ran this request, the last time alone: {reason}"
    return Failure("worker_died", message, deaths)
