"""What is known of every request of a sitting, as columns; a report is worked out from them once the run is over."""

from __future__ import annotations

from typing import Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Floats = NDArray[np.float64]
State = Literal["starting", "loading", "ready", "dead", "retired"]


class StateChange(Struct, frozen=True):
    """A worker entered a state, by the coordinator's clock."""

    worker: int
    state: State
    at_seconds: float


class Columns(Struct, frozen=True, kw_only=True):
    """Requests that workers completed: one value of each column per request, times by the coordinator's clock.

    `began` is when the engine started on a request: a worker tells durations, so it is counted back from `answered_at`.
    """

    worker: NDArray[np.int32]
    sent_at: Floats
    began: Floats
    first_token_at: Floats
    answered_at: Floats
    input_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    failed: NDArray[np.bool_]


class Wasted(Struct, frozen=True):
    """Requests that were in flight when their worker died: from when to when they took a place there."""

    worker: NDArray[np.int32]
    sent_at: Floats
    lost_at: Floats


def no_columns() -> Columns:
    """The columns of a sitting that completed nothing."""
    nothing = np.empty(0)
    return Columns(
        worker=np.empty(0, np.int32),
        sent_at=nothing,
        began=nothing,
        first_token_at=nothing,
        answered_at=nothing,
        input_tokens=np.empty(0, np.int64),
        output_tokens=np.empty(0, np.int64),
        failed=np.empty(0, np.bool_),
    )


def nothing_wasted() -> Wasted:
    """No worker died with requests in flight."""
    return Wasted(np.empty(0, np.int32), np.empty(0), np.empty(0))
