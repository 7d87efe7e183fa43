"""The place of one worker: its process, its channel, and how long it has been in which state."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from trt_dp.launchers import Process
from trt_dp.types import Facts, Placement
from trt_dp.wire.channel import Channel
from trt_dp.wire.messages import ToCoordinator

_SOON = 0.005
_MOST_FACTS, _LONGEST_FACT = 1000, 4000

State = Literal["starting", "loading", "ready", "ending", "closed"]


class Slot:
    """The place of one worker: starting, loading, ready, ending, and then starting again or closed."""

    def __init__(self, placement: Placement, log: Path) -> None:
        self.placement = placement
        self.log = log
        self.process: Process | None = None
        self.channel: Channel[ToCoordinator] | None = None
        self.state: State = "closed"
        self.launches = 0
        self.since = 0.0  # when the state began; for a ready worker, when it was last heard
        self.held = 0  # requests in its hands
        self.answered = 0.0  # when it last answered one, or was given the first of them
        self.deaths = 0  # in a row, without an answer between them
        self.was_ready = False  # in any of its launches
        self.is_loading = False  # its engine, in this launch; not yet ready
        self.logged = 0  # bytes in its log when the last launch began
        self.reason = ""  # what it died of, where its exit status does not tell
        self.hint = ""  # what its channel said at the end, in case it has to be killed

    def enter(self, state: State) -> None:
        """Begin a state, with nothing in hand."""
        self.state, self.since = state, time.monotonic()
        self.held = 0

    def hold(self, change: int) -> None:
        """So many requests more in its hands, or fewer, which is a sign that it gets on."""
        if change < 0 or not self.held:
            self.answered = time.monotonic()
        self.held += change

    @property
    def has_ended(self) -> bool:
        """Whether there was a process, and it is no more."""
        return self.process is not None and self.process.poll() is not None


def sensible(facts: Facts) -> bool:
    """Whether this is what an engine may say of itself: some lines of a report, no more."""
    longest = max((len(str(value)) + len(name) for name, value in facts.items()), default=0)
    return len(facts) <= _MOST_FACTS and longest <= _LONGEST_FACT


def end_of_process(status: int | None) -> str:
    """What an exit status tells, in words."""
    if status is None:
        return "it could not be ended"
    if status < 0:
        names = {kind.value: kind.name for kind in signal.Signals}
        return f"it was killed by {names.get(-status, f'signal {-status}')}"
    return f"it exited with status {status}"


def wait_for(slots: list[Slot], seconds: float, hurry: Sequence[object] = ()) -> None:
    """Until every process has ended, but no longer than that."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not hurry:
        if all(slot.process is None or slot.process.poll() is not None for slot in slots):
            return
        time.sleep(_SOON)
