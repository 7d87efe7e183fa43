"""What is known of every request of a sitting, as columns; the report is made from them after the run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from trt_dp.report.parts import Parts

Floats = NDArray[np.float64]
State = Literal["starting", "loading", "ready", "dead", "retired"]


class StateChange(Struct, frozen=True):
    """A worker entered a state, by the coordinator's clock."""

    worker: int
    state: State
    at_seconds: float


class Columns(Struct, frozen=True, kw_only=True):
    """Requests that workers completed: one value of each column per request, times by the coordinator's clock.

    `began` is when the engine started on a request: a worker tells durations, so it is counted back from
    `answered_at`. `made_from` is from when its tokens were made. `again`: an earlier worker died with it in flight.
    """

    worker: NDArray[np.int32]
    sent_at: Floats
    began: Floats
    first_token_at: Floats
    answered_at: Floats
    input_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    failed: NDArray[np.bool_]
    again: NDArray[np.bool_]
    made_from: Floats


class Wasted(Struct, frozen=True):
    """Requests that were in flight when their worker died: from when to when they took a place there."""

    worker: NDArray[np.int32]
    sent_at: Floats
    lost_at: Floats


def answered_after(parts: Iterable[Columns], moment: float) -> Parts[Columns]:
    """The columns of requests that were not completed yet at a moment."""
    return Parts(lambda: (_where(part, part.answered_at > moment) for part in parts))


def _where(columns: Columns, which: NDArray[np.bool_]) -> Columns:
    return Columns(**{name: getattr(columns, name)[which] for name in Columns.__struct_fields__})


def last_fresh_sent(parts: Iterable[Columns]) -> float:
    """When the last request was sent that no worker had died with; 0 if there is none."""
    return max((float(part.sent_at[~part.again].max(initial=0.0)) for part in parts), default=0.0)


def by_worker(columns: Columns, workers: int) -> list[Columns]:
    """The columns of each worker, cut out of one sorted copy."""
    order = np.argsort(columns.worker, kind="stable")
    cuts = np.searchsorted(columns.worker[order], np.arange(1, workers))
    sorted_columns = {
        name: np.split(getattr(columns, name)[order], cuts) for name in Columns.__struct_fields__
    }
    return [
        Columns(**{name: parts[worker] for name, parts in sorted_columns.items()})
        for worker in range(workers)
    ]


def states_by_worker(states: Sequence[StateChange], workers: int) -> list[list[StateChange]]:
    """The changes of each worker's state, in their order."""
    found: list[list[StateChange]] = [[] for _ in range(workers)]
    for change in states:
        found[change.worker].append(change)
    return found


def nothing_wasted() -> Wasted:
    """No worker died with requests in flight."""
    return Wasted(np.empty(0, np.int32), np.empty(0), np.empty(0))
