"""How long a worker may take for what it does, and how often it may die."""

from __future__ import annotations

import math

from msgspec import Struct, structs


class Limits(Struct, frozen=True, kw_only=True):
    """How long each state of a worker may last, and how often in a row it may die without an answer.

    A run on several hosts waits `host_seconds` while it has fewer than `min_workers`; on one machine it ends.
    With `allow_fewer`, a worker that cannot start does not end the run, nor the others that step together with it.
    """

    start_seconds: float = 120.0
    load_seconds: float = 1800.0
    stall_seconds: float = 120.0
    answer_seconds: float = 21_600.0
    paused_seconds: float = 900.0
    max_restarts: int = 5
    host_seconds: float = 120.0
    min_workers: int = 1
    allow_fewer: bool = False


def without_time_limits(limits: Limits) -> Limits:
    """For workers that cannot be killed, such as one that runs in a debugger."""
    return structs.replace(
        limits, load_seconds=math.inf, stall_seconds=math.inf, answer_seconds=math.inf
    )
