"""Which message a worker may send in which state, and what it means; any other message ends the worker."""

from __future__ import annotations

import time

from trt_dp.coordinator.workers.events import Event
from trt_dp.coordinator.workers.slot import Slot
from trt_dp.system.safe_text import brief
from trt_dp.types import RECORD, Facts
from trt_dp.wire.messages import (
    Beat,
    Capacity,
    Done,
    EngineFacts,
    Fault,
    GivenBack,
    Ready,
    Refused,
    ToCoordinator,
)

_INDEX_BYTES = 8
_MOST_FACTS, _LONGEST_FACT = 1000, 4000


def hear(slot: Slot, messages: list[ToCoordinator]) -> list[Event]:
    """The events in these messages, up to the first that ends the worker."""
    events: list[Event] = []
    for message in messages:
        event = _understand(slot, message)
        if event is not None:
            events.append(event)
        if slot.state == "ending":
            break
    if messages and slot.state == "ready":  # incomplete messages are no sign of life
        slot.since = time.monotonic()
    return events


def _understand(slot: Slot, message: ToCoordinator) -> Event | None:
    if isinstance(message, Refused):
        return Refused(brief(message.message), message.usage)
    if isinstance(message, Ready) and slot.state == "loading" and message.capacity > 0:
        slot.enter("ready")
        return message
    if slot.state == "ready" and isinstance(message, Done | GivenBack | EngineFacts | Capacity):
        return _of_a_ready_one(slot, message)
    _end(slot, message)
    return None


def _of_a_ready_one(slot: Slot, message: Done | GivenBack | EngineFacts | Capacity) -> Event | None:
    if isinstance(message, Done):
        slot.deaths = 0
        slot.hold(-(len(message.records) // RECORD.itemsize))
    elif isinstance(message, GivenBack):
        slot.hold(-(len(message.indices) // _INDEX_BYTES))
    elif (isinstance(message, Capacity) and message.capacity < 0) or (
        isinstance(message, EngineFacts) and not sensible(message.facts)
    ):
        _end(slot, message)
        return None
    return message


def _end(slot: Slot, message: ToCoordinator) -> None:
    """End a worker that reports its own death, or says what it may not say now."""
    if isinstance(message, Fault):
        slot.reason = brief(message.message)
        slot.end(slot.reason, kill=False)  # it dies of it, or is killed
    elif not isinstance(message, Beat):
        name = type(message).__name__
        slot.end(f"it sent a {name} message out of turn, or with values out of range", kill=True)


def sensible(facts: Facts) -> bool:
    """Whether these facts are acceptable: few and short enough for a report."""
    longest = max((len(str(value)) + len(name) for name, value in facts.items()), default=0)
    return len(facts) <= _MOST_FACTS and longest <= _LONGEST_FACT
