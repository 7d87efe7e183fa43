"""How long a worker may be silent, and how often to look."""

from __future__ import annotations

import time
from collections.abc import Collection

from trt_dp.coordinator.workers.limits import Limits
from trt_dp.coordinator.workers.slot import Slot

SOON = 0.005
OFTEN = 0.05
SELDOM = 0.5
_AWAY_SECONDS = 2.0


class Clock:
    """When this process last looked at its workers."""

    def __init__(self) -> None:
        self._looked = time.monotonic()

    def excuse_absence(self, slots: Collection[Slot]) -> None:
        """When this process itself was away (stopped, say), its workers were not silent: it was not listening."""
        now = time.monotonic()
        away = now - self._looked
        if away > _AWAY_SECONDS:
            for slot in slots:
                slot.since += away
                slot.answered += away
        self._looked = now


def patience(slots: Collection[Slot]) -> float:
    """How long to wait at most for something that the selector does not announce."""
    states = {slot.state for slot in slots}
    if "ending" in states:
        return SOON
    return OFTEN if "starting" in states else SELDOM


def overdue(slot: Slot, limits: Limits, now: float) -> str | None:
    """Which limit a worker has exceeded, as the reason to end it."""
    lasted = now - slot.since
    if slot.state == "starting" and lasted > limits.start_seconds:
        return f"it did not connect within {lasted:.0f} s (--start-seconds)"
    if slot.state == "loading" and lasted > limits.load_seconds:
        return f"the engine did not load within {lasted:.0f} s (--load-seconds)"
    if slot.state == "ready" and lasted > limits.stall_seconds:
        return f"it was silent for {lasted:.0f} s (--stall-seconds)"
    if slot.in_flight > 0 and now - slot.answered > limits.answer_seconds:
        limit = f"{limits.answer_seconds:.0f} s (--answer-seconds)"
        return f"it answered none of {slot.in_flight} requests for {limit}"
    return None


def ended_unnoticed(slot: Slot, now: float) -> str | None:
    """The reason to end a worker whose process has ended, although its channel is still open."""
    if slot.state == "starting" and slot.has_ended:
        return "it ended before it connected"
    if slot.state not in ("loading", "ready") or now - slot.since <= SELDOM:
        return None
    return "it ended, but its channel stayed open" if slot.has_ended else None
