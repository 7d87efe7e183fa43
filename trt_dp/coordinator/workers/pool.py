"""Workers as a stream of events: this hides how they start, connect, fall silent, die and are replaced.

                launcher or agent        admission                connection
slot  ── start ─────────► process ── connect ────► Hello ── Setup ──► Ready ──► Done, Done, ...
  ▲                          │                        │                 │          │
  │                          ▼ ends before            ▼ too long        ▼ end of channel, or silence
  └── launched again ◄── Lost ◄─────────────────── ending ◄─────────────┴──────────┘
"""

from __future__ import annotations

import os
import selectors
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from msgspec import structs

from trt_dp.coordinator.workers import watch
from trt_dp.coordinator.workers.admission import Admission
from trt_dp.coordinator.workers.connection import Connection
from trt_dp.coordinator.workers.events import Event, Lost
from trt_dp.coordinator.workers.hearing import hear
from trt_dp.coordinator.workers.hosts import Hosts, News
from trt_dp.coordinator.workers.limits import Limits
from trt_dp.coordinator.workers.meeting import Meeting
from trt_dp.coordinator.workers.remote import Agent
from trt_dp.coordinator.workers.slot import KILLED_SECONDS, Slot, share_deaths, wait_for
from trt_dp.launchers import Launcher
from trt_dp.placement.environment import clean
from trt_dp.types import SPAN, Placement
from trt_dp.wire.messages import Cancel, Host, Requests, Setup, Stop, Work

Happening = tuple[int, Event]
_FATE = "a worker in lock step with it died"


class Pool:
    """Workers 0 to N-1; every one that dies is started again until it has died too often in a row."""

    def __init__(
        self,
        admission: Admission,
        hosts: Hosts,
        setup: Callable[[Placement], Setup],
        limits: Limits,
        logs: Path,
    ) -> None:
        self._admission = admission
        self._hosts = hosts
        self._setup = setup
        self._limits = limits
        self._logs = logs
        self._clock = watch.Clock()
        self._meeting: Meeting | None = None
        self._fallen: list[tuple[int, Lost]] = []
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._admission.door, selectors.EVENT_READ)
        self._slots: dict[int, Slot] = {}
        self._launchers: list[Launcher] = []

    @property
    def tied(self) -> bool:
        """Whether the workers step together."""
        return self._meeting is not None

    @property
    def admits(self) -> bool:
        """Whether a process is connecting."""
        return self._admission.busy

    def tie(self, meeting: Meeting) -> None:
        """The workers step together: the death of one ends all, and all start again."""
        self._meeting = meeting

    def add(self, launcher: Launcher, placements: Sequence[Placement]) -> None:
        """Start workers in these places; they come up while the caller waits for events."""
        self._launchers.append(launcher)
        for place in placements:
            slot = Slot(place, launcher, self._logs / f"worker-{place.worker}.log")
            self._slots[place.worker] = slot
            self._launch(slot)

    def complete(self, setup: Callable[[Placement], Setup], limits: Limits) -> None:
        """The dataset is checked now: tell workers that are loading already what to answer, and later ones at once."""
        self._setup, self._limits = setup, limits
        for slot in self._slots.values():
            told = setup(slot.placement)
            if slot.state == "loading" and told.source:
                slot.since = time.monotonic()
                slot.send(Requests(told.source, told.tokenizer))

    def events(self, seconds: float) -> list[Happening]:
        """What happened, in order; waits at most `seconds` for something to happen.

        After `Lost` no older answer of that worker will ever come.
        """
        slots = self._slots.values()
        if self._meeting:
            share_deaths(self._together(self._meeting))
        patience = watch.SOON if self._admission.busy else watch.patience(slots)
        ready = self._selector.select(min(seconds, patience))
        self._clock.excuse_absence(slots)
        happened = [event for key, mask in ready for event in _read(key.data, mask)]
        self._look_at_hosts()
        if self._admission.busy or any(key.data is None for key, _ in ready):
            happened += self._admit()
        now = time.monotonic()
        for slot in slots:
            happened += self._watch(slot, now)
        return happened

    def news(self) -> list[News]:
        """What happened to hosts; the workers of one that is lost are reported as lost too."""
        return self._hosts.news()

    def accepts(self, worker: int) -> bool:
        """Whether a worker is ready, and not about to be reported as lost."""
        return self._slots[worker].state == "ready"

    def send(self, worker: int, work: Work) -> None:
        """Give work to a ready worker; if it is dying, its Lost is on the way."""
        self._slots[worker].hold(len(work.spans) // SPAN.itemsize)
        self._slots[worker].send(work)

    def cancel(self, worker: int, index: int) -> None:
        """Another worker has answered this request."""
        self._slots[worker].send(Cancel(np.int64(index).tobytes()))

    def discard(self, worker: int, reason: str) -> None:
        """End a worker that cannot be trusted; its Lost follows."""
        self._slots[worker].end(reason, kill=True)

    def give_up(self, worker: int, reason: str) -> None:
        """End a worker that is not to be started again; its Lost follows."""
        self._slots[worker].given_up = True
        self.discard(worker, reason)

    def forgive(self) -> None:
        """The last deaths had a cause that is removed: they count against no worker any more."""
        for slot in self._slots.values():
            slot.deaths = 0

    def stop(self) -> None:
        """Ask every ready worker to leave, and end those that are still coming up; `close` waits for them."""
        for slot in self._slots.values():
            if slot.state == "ready":
                slot.send(Stop())
            elif slot.process:
                slot.end("it is no longer needed", kill=True)
                slot.process.kill()

    def close(self, seconds: float, hurry: Sequence[object] = ()) -> None:
        """Wait this long for the workers to exit, or until `hurry` is not empty, then end them all."""
        self._admission.close()
        self._hosts.finish()
        slots = [slot for slot in self._slots.values() if slot.process]
        wait_for(slots, seconds, self._look, hurry)
        for slot in slots:
            if slot.process:
                slot.process.kill()
            if slot.connection:
                slot.connection.close()
        wait_for(slots, KILLED_SECONDS, self._look)
        self._hosts.close()
        self._selector.close()
        for launcher in self._launchers:
            launcher.close()

    def _look(self) -> None:
        self._hosts.read()
        self._look_at_hosts()

    def _look_at_hosts(self) -> None:
        for agent in self._hosts.look():
            for slot in self._slots.values():
                if slot.launcher is agent and slot.state != "retired":
                    slot.lose_host(f"its host {agent.name} is lost: {agent.why_lost}")

    def _launch(self, slot: Slot) -> None:
        invitation = self._admission.invitation(slot.worker, slot.launches + 1)
        meeting = self._meeting.environment(slot.worker) if self._meeting else {}
        environment = {**clean(os.environ), **slot.placement.environment, **meeting, **invitation}
        slot.launch(environment)

    def _admit(self) -> list[Happening]:
        """Connect the workers that are expected, and hosts; disconnect any other process."""
        seated: list[Happening] = []
        for hello, channel in self._admission.arrivals():
            if isinstance(hello, Host):
                self._hosts.arrive(hello, channel, self._selector)
                continue
            slot = self._slots.get(hello.worker)
            if slot is None or not slot.expects(hello):
                channel.close()
                continue
            slot.seat(Connection(channel, self._selector, slot), self._setup(slot.placement))
            seated.append((hello.worker, hello))
        return seated

    def _watch(self, slot: Slot, now: float) -> list[Happening]:
        """Notice what the selector does not show: silence, and processes that ended."""
        if slot.state == "ending":
            return self._bury(slot)
        if reason := watch.ended_unnoticed(slot, now):
            last_words = _read(slot, selectors.EVENT_READ)
            slot.end(reason, kill=False)
            return last_words
        if reason := watch.overdue(slot, self._limits, now):
            slot.end(reason, kill=True)
        return []

    def _bury(self, slot: Slot) -> list[Happening]:
        """Report a worker whose process has ended as lost, and start it again unless it is retired."""
        lost = slot.bury(self._limits.max_restarts)
        if lost is None:
            return []
        if self._meeting:
            return self._fall(self._meeting, slot, lost)
        if not lost.retired:
            self._launch(slot)
        return [(slot.worker, lost)]

    def _fall(self, meeting: Meeting, slot: Slot, lost: Lost) -> list[Happening]:
        """One of those that step together is dead: end the others, and report and start them once all are dead."""
        group = self._together(meeting)
        self._fallen.append((slot.worker, lost))
        for other in group:
            other.end(_FATE, kill=True)
        if len(self._fallen) < len(group):
            return []
        fallen, self._fallen = self._fallen, []
        first = min(group, key=lambda each: each.ended)
        gone = self._gone(group, first, fallen)
        if left := [each for each in group if each.worker not in gone]:
            meeting.again([each.worker for each in left])
        for each in left:
            self._launch(each)
        return [
            (worker, structs.replace(lost, retired=worker in gone, innocent=worker != first.worker))
            for worker, lost in fallen
        ]

    def _together(self, meeting: Meeting) -> list[Slot]:
        return [self._slots[worker] for worker in meeting.workers if worker in self._slots]

    def _gone(self, group: list[Slot], first: Slot, fallen: list[tuple[int, Lost]]) -> set[int]:
        """Who is not started again: all of them, or only the one that died first, if fewer workers will do."""
        retired = {worker for worker, lost in fallen if lost.retired}
        if not self._limits.allow_fewer:
            return {slot.worker for slot in group} if retired else set()
        for slot in group:
            slot.deaths -= slot is not first  # it died of another's death
        return {slot.worker for slot in group if slot.given_up} | (retired & {first.worker})


def _read(slot: Slot | Agent | None, mask: int) -> list[Happening]:
    """What a worker has to say; an agent keeps what it hears, and the door says nothing."""
    if isinstance(slot, Agent):
        slot.read(write=bool(mask & selectors.EVENT_WRITE))
        return []
    if slot is None:
        return []
    return [(slot.worker, event) for event in hear(slot, slot.receive(mask))]
