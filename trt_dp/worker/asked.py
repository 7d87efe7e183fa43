"""A row on its way through a worker: as it was read, then as engine requests, then as their results."""

from __future__ import annotations

from msgspec import Raw, Struct

from trt_dp.dataset.fields import Fields
from trt_dp.types import Failure, Request, Result, Returned, Timing

_COPIES = 40
_PLACE = (1 << _COPIES) - 1


class Row(Struct, frozen=True):
    """A row that was read and is not an engine's yet."""

    index: int
    fields: Fields
    received: float


class Asked(Struct):
    """A row in flight: `waiting` of its requests have no result yet."""

    index: int
    task_id: int | str
    received: float
    wants_text: bool
    more: dict[str, Raw]
    requests: tuple[Request, ...]
    results: list[Result | None]
    waiting: int
    submitted: float = 0.0
    returned: Returned | None = None  # one of them has no answer: the whole row runs again
    cancelled: bool = False  # another worker answered it

    @property
    def error(self) -> Failure | None:
        """Why the row has no answer, if any of its requests failed."""
        return next((one.error for one in self.results if one and one.error), None)


def copy_index(index: int, copy: int) -> int:
    """The engine's index of a row's further answers, which no row has."""
    return index + (copy << _COPIES)


def place_of(engine_index: int) -> tuple[int, int]:
    """The row's index, and which of its answers this is."""
    return engine_index & _PLACE, engine_index >> _COPIES


def timing_of(asked: Asked, own: Timing) -> Timing:
    """From the engine's times, where all its results have some; otherwise the worker's own."""
    times = [result.timing for result in asked.results if result and result.timing]
    if len(times) < len(asked.requests):
        return own
    return Timing(
        queue_seconds=min(one.queue_seconds for one in times),
        first_token_seconds=min(one.first_token_seconds for one in times),
        total_seconds=max(one.total_seconds for one in times),
    )


def own_timing(asked: Asked, now: float) -> Timing:
    """The worker's own times, for an engine without: all tokens came at the end, which is now."""
    total = round(now - asked.received, 6)
    return Timing(
        queue_seconds=round((asked.submitted or asked.received) - asked.received, 6),
        first_token_seconds=total,
        total_seconds=total,
    )
