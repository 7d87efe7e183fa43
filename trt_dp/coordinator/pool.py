"""Workers as a stream of events: this hides how they start, connect, fall silent, die and are replaced.

                launcher                    door                      channel
slot  ── start ─────────► process ── knock ──────► Hello ── Setup ──► Ready ──► Done, Done, ...
  ▲                          │                        │                 │          │
  │                          ▼ ends before            ▼ too long        ▼ end of channel, or silence
  └── launched again ◄── Lost ◄─────────────────── ending ◄─────────────┴──────────┘
"""

from __future__ import annotations

import os
import secrets
import selectors
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from msgspec import Struct

from trt_dp.coordinator.last_words import last_words, log_size
from trt_dp.coordinator.slot import Slot, end_of_process, sensible, wait_for
from trt_dp.errors import ChannelClosed
from trt_dp.launchers import Launcher
from trt_dp.placement.plan import clean
from trt_dp.system.safe_text import brief
from trt_dp.types import RECORD, SPAN, Placement
from trt_dp.wire.channel import HANDSHAKE_SECONDS, MAX_MESSAGE, Channel, Door
from trt_dp.wire.messages import (
    Done,
    Fault,
    Hello,
    Ready,
    Refused,
    Setup,
    Stop,
    ToCoordinator,
    Told,
    Work,
)
from trt_dp.worker.serve import ADDRESS, KEY, LAUNCH, WORKER

_SOON = 0.005
_OFTEN = 0.05
_SELDOM = 0.5
_AWAY_SECONDS = 2.0
_ENDS_ITSELF_SECONDS = 0.5
_KILLED_SECONDS = 30.0
_RESTARTS_WHILE_LOADING = 1  # what fails to load twice fails always, and loading may take minutes


class Limits(Struct, frozen=True):
    """How long each state of a worker may last, and how often in a row it may die without answering."""

    stall_seconds: float = 120.0
    load_seconds: float = 1800.0
    start_seconds: float = 120.0
    max_restarts: int = 5
    answer_seconds: float = 21_600.0


class Lost(Struct, frozen=True):
    """The worker is dead, whatever the cause; `closed` when it will not be started again."""

    reason: str
    closed: bool


Event = Hello | Ready | Told | Done | Refused | Lost


class Pool:
    """Workers 0 to N-1; every one that dies is started again until it has died too often in a row."""

    def __init__(
        self,
        launcher: Launcher,
        placements: Sequence[Placement],
        setup: Callable[[Placement], Setup],
        limits: Limits,
        logs: Path,
    ) -> None:
        self._launcher = launcher
        self._setup = setup
        self._limits = limits
        self._key = secrets.token_bytes(32)
        self._looked = time.monotonic()
        self._door = Door(launcher.host, self._key)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._door, selectors.EVENT_READ)
        self._strangers: list[tuple[Channel[ToCoordinator], float]] = []
        self._slots = {
            placement.worker: Slot(placement, logs / f"worker-{placement.worker}.log")
            for placement in placements
        }

    def start(self) -> None:
        """Start every worker; they come up while the caller waits for events."""
        for slot in self._slots.values():
            self._launch(slot)

    def events(self, seconds: float) -> list[tuple[int, Event]]:
        """What happened, in order; waits at most `seconds` for something to happen.

        After `Lost` no older answer of that worker will ever come.
        """
        happened: list[tuple[int, Event]] = []
        ready = self._selector.select(min(seconds, self._patience()))
        self._excuse_absence()
        for key, mask in ready:
            if isinstance(key.data, Slot) and key.data.channel:
                happened += self._attend(key.data, mask)
        if self._strangers or self._door.busy or any(key.fileobj is self._door for key, _ in ready):
            happened += self._admit()
        for slot in self._slots.values():
            happened += self._watch(slot)
        return happened

    def accepts(self, worker: int) -> bool:
        """Whether a worker is ready, and not about to be reported as lost."""
        return self._slots[worker].state == "ready"

    def send(self, worker: int, work: Work) -> None:
        """Give work to a ready worker; if it is dying, its Lost is on the way."""
        self._slots[worker].hold(len(work.spans) // SPAN.itemsize)
        self._send(self._slots[worker], work)

    def discard(self, worker: int, reason: str) -> None:
        """End a worker that cannot be trusted; its Lost follows."""
        self._end(self._slots[worker], reason, kill=True)

    def forgive(self) -> None:
        """The last deaths had a cause that is gone: they count against no worker any more."""
        for slot in self._slots.values():
            slot.deaths = 0

    def stop(self) -> None:
        """Ask every ready worker to leave, and end those that are still coming up; `close` waits for them."""
        for slot in self._slots.values():
            if slot.state == "ready":
                self._send(slot, Stop())
            elif slot.process:
                self._end(slot, "it was not needed any more", kill=True)
                slot.process.kill()

    def close(self, seconds: float, hurry: Sequence[object] = ()) -> None:
        """Wait that long for the workers to leave, or until `hurry` holds something, then end them all."""
        self._turn_away()
        slots = [slot for slot in self._slots.values() if slot.process]
        wait_for(slots, seconds, hurry)
        for slot in slots:
            if slot.process:
                slot.process.kill()
            if slot.channel:
                slot.channel.close()
        wait_for(slots, _KILLED_SECONDS)
        self._selector.close()
        self._launcher.close()

    def _turn_away(self) -> None:
        """Hang up on those who are not seated yet: nobody will attend to them any more."""
        self._door.close()
        for channel, _ in self._strangers:
            channel.close()

    def _excuse_absence(self) -> None:
        """When this process itself was away (stopped, say), its workers were not silent: nobody listened."""
        now = time.monotonic()
        away = now - self._looked
        if away > _AWAY_SECONDS:
            for slot in self._slots.values():
                slot.since += away
                slot.answered += away
        self._looked = now

    def _patience(self) -> float:
        """How long nothing needs a look that is not announced by a descriptor."""
        states = {slot.state for slot in self._slots.values()}
        if self._door.busy or self._strangers or "ending" in states:
            return _SOON
        return _OFTEN if "starting" in states else _SELDOM

    def _launch(self, slot: Slot) -> None:
        environment = {
            **clean(os.environ),
            **slot.placement.environment,
            ADDRESS: self._door.address,
            KEY: self._key.hex(),
            WORKER: str(slot.placement.worker),
            LAUNCH: str(slot.launches + 1),
        }
        slot.launches += 1
        slot.enter("starting")
        slot.reason = slot.hint = ""
        slot.is_loading, slot.logged = False, log_size(slot.log)
        try:
            slot.process = self._launcher.start(slot.placement, environment, slot.log)
        except OSError as error:
            slot.process = None
            self._end(slot, f"could not be started: {error.strerror}", kill=False)

    def _admit(self) -> list[tuple[int, Event]]:
        """Let in who shook hands, and seat who said which worker it is; nobody stands there for long."""
        deadline = time.monotonic() + HANDSHAKE_SECONDS
        self._strangers += [(channel, deadline) for channel in self._door.admit()]
        seated: list[tuple[int, Event]] = []
        waiting = []
        for channel, until in self._strangers:
            hello = _first_word(channel)
            if hello is None and time.monotonic() < until:
                waiting.append((channel, until))
            elif not isinstance(hello, Hello) or not self._seat(hello, channel):
                channel.close()
            else:
                seated.append((hello.worker, hello))
        self._strangers = waiting
        return seated

    def _seat(self, hello: Hello, channel: Channel[ToCoordinator]) -> bool:
        slot = self._slots.get(hello.worker)
        if slot is None or slot.state != "starting" or hello.launch != slot.launches:
            return False
        slot.channel = channel
        channel.limit = MAX_MESSAGE
        slot.enter("loading")
        slot.is_loading = True
        self._selector.register(channel, selectors.EVENT_READ, slot)
        self._send(slot, self._setup(slot.placement))
        return True

    def _attend(self, slot: Slot, mask: int) -> list[tuple[int, Event]]:
        """Read and write what a channel is ready for."""
        worker, channel = slot.placement.worker, slot.channel
        if channel is None:
            return []
        heard: list[tuple[int, Event]] = []
        try:
            if mask & selectors.EVENT_WRITE:
                channel.flush()
                self._listen(slot)
            if mask & selectors.EVENT_READ:
                heard = [(worker, event) for event in self._hear(slot, channel.receive())]
        except ChannelClosed as closed:
            self._end(slot, str(closed), kill=False)
        return heard

    def _hear(self, slot: Slot, messages: list[ToCoordinator]) -> list[Event]:
        """Messages as events, in the states in which they may come; any other ends the worker."""
        events: list[Event] = []
        for message in messages:
            if isinstance(message, Refused):
                events.append(Refused(brief(message.message), message.usage))
            elif isinstance(message, Fault):
                slot.reason = brief(message.message)
                self._end(slot, slot.reason, kill=False)  # it dies of it, or is ended
                break
            elif isinstance(message, Ready) and slot.state == "loading" and message.capacity > 0:
                slot.enter("ready")
                slot.was_ready, slot.is_loading = True, False
                events.append(message)
            elif isinstance(message, Done) and slot.state == "ready":
                slot.deaths = 0
                slot.hold(-(len(message.records) // RECORD.itemsize))
                events.append(message)
            elif isinstance(message, Told) and slot.state == "ready" and sensible(message.facts):
                events.append(message)
            elif isinstance(message, (Hello, Ready, Told, Done)):
                self._end(
                    slot, f"sent {type(message).__name__} out of turn or out of measure", kill=True
                )
                break
        if messages and slot.state == "ready":  # mere bytes are no sign of life
            slot.since = time.monotonic()
        return events

    def _watch(self, slot: Slot) -> list[tuple[int, Event]]:
        """Notice what no descriptor tells: an end before connecting, silence, and the end of the ending."""
        lasted = time.monotonic() - slot.since
        if slot.state in ("loading", "ready") and lasted > _SELDOM and slot.has_ended:
            heard = self._attend(slot, selectors.EVENT_READ)  # its last words, if any
            self._end(slot, "it ended, and its channel did not", kill=False)
            return heard
        if slot.state == "starting":
            if slot.has_ended:
                self._end(slot, "it ended before it connected", kill=False)
            elif lasted > self._limits.start_seconds:
                self._end(slot, f"it did not connect in {lasted:.0f} s", kill=True)
        elif slot.state == "loading" and lasted > self._limits.load_seconds:
            self._end(slot, f"the engine did not load in {lasted:.0f} s", kill=True)
        elif slot.state == "ready" and lasted > self._limits.stall_seconds:
            self._end(slot, f"it said nothing for {lasted:.0f} s (--stall-seconds)", kill=True)
        elif slot.held > 0 and time.monotonic() - slot.answered > self._limits.answer_seconds:
            limit = f"{self._limits.answer_seconds:.0f} s (--answer-seconds)"
            self._end(slot, f"it answered none of {slot.held} requests for {limit}", kill=True)
        elif slot.state == "ending":
            return self._bury(slot, lasted)
        return []

    def _end(self, slot: Slot, reason: str, *, kill: bool) -> None:
        """Hang up on a worker; it counts as lost when its process is gone."""
        if slot.state in ("ending", "closed"):
            return
        if slot.channel:
            self._selector.unregister(slot.channel)
            slot.channel.close()
            slot.channel = None
        if kill or not slot.process:
            slot.reason = slot.reason or reason
        slot.hint = reason
        slot.enter("ending")
        if kill and slot.process:
            slot.process.kill()

    def _bury(self, slot: Slot, lasted: float) -> list[tuple[int, Event]]:
        status = slot.process.poll() if slot.process else 0
        if status is None and lasted <= _KILLED_SECONDS:
            if lasted > _ENDS_ITSELF_SECONDS and slot.process:
                slot.reason = slot.reason or slot.hint
                slot.process.kill()
            return []
        slot.deaths += 1
        most = self._limits.max_restarts
        if slot.is_loading and not slot.was_ready:
            most = min(most, _RESTARTS_WHILE_LOADING)
        closed = slot.deaths > most or status is None
        reason = slot.reason or _reason(slot, status)
        slot.process = None
        slot.enter("closed")
        if not closed:
            self._launch(slot)
        return [(slot.placement.worker, Lost(reason, closed))]

    def _send(self, slot: Slot, message: Setup | Work | Stop) -> None:
        if slot.channel is None:
            return
        try:
            slot.channel.send(message)
            self._listen(slot)
        except ChannelClosed as closed:
            self._end(slot, str(closed), kill=False)

    def _listen(self, slot: Slot) -> None:
        """Wait for room to write only while something is to be written."""
        if slot.channel is None:
            return
        mask = selectors.EVENT_READ | (selectors.EVENT_WRITE if slot.channel.sending else 0)
        self._selector.modify(slot.channel, mask, slot)


def _reason(slot: Slot, status: int | None) -> str:
    """How a process ended; if its engine was loading, also the error that its log tells of."""
    said = brief(last_words(slot.log, slot.logged)) if slot.is_loading else ""
    return f"{end_of_process(status)}: {said}" if said else end_of_process(status)


def _first_word(channel: Channel[ToCoordinator]) -> ToCoordinator | Literal[False] | None:
    """The first message, None if there is none yet, False if there will be none."""
    try:
        messages = channel.receive()
    except ChannelClosed:
        return False
    return messages[0] if messages else None
