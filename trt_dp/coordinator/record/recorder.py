"""Notes what happens to workers: in the tally for the report, and in the event log for whoever watches."""

from __future__ import annotations

import math
import os

from trt_dp.coordinator.job import Snapshot
from trt_dp.coordinator.record.event_log import EventLog, LaneStatus, Status, utc_now
from trt_dp.coordinator.record.lane import Lane
from trt_dp.coordinator.record.tally import Tally
from trt_dp.coordinator.workers.events import Lost
from trt_dp.report.columns import State
from trt_dp.types import Facts

_KV_FACTS = ("kv_fill", "kv_cache_fill", "kv_cache_usage")


class Recorder:
    """Per event of a worker a line; per second a status. Nothing here is done per request."""

    def __init__(self, tally: Tally, log: EventLog) -> None:
        self._tally = tally
        self._log = log

    def began(self, requests: int, completed: int) -> None:
        """A sitting began, with so many requests already completed."""
        self._log.write(
            "sitting",
            utc=utc_now(),
            requests=requests,
            completed=completed,
            workers=len(self._tally.lanes),
            pid=os.getpid(),
        )

    def entered(self, worker: int, state: State) -> None:
        """A worker entered a state."""
        self._tally.entered(worker, state)
        self._log.write("worker", worker=worker, state=state)

    def ready(self, worker: int, load_seconds: float, capacity: int) -> None:
        """A worker is ready."""
        self._tally.ready(worker, load_seconds, capacity)
        self._log.write("worker", worker=worker, state="ready", capacity=capacity)

    def lost(self, worker: int, given_up: int, lost: Lost) -> None:
        """A worker died; it is started again unless it is retired."""
        in_flight = self._tally.lanes[worker].in_flight
        self._tally.lost(worker, given_up, lost.reason)
        self._log.write("death", worker=worker, reason=lost.reason, requests=in_flight)
        self.entered(worker, "dead")
        self.entered(worker, "retired" if lost.retired else "starting")

    def given_back(self, worker: int, requests: int, reason: str) -> None:
        """A living worker has no answer to these requests."""
        self._log.write("given_back", worker=worker, reason=reason, requests=requests)

    def capacity(self, worker: int, capacity: int) -> None:
        """A worker takes another number of requests at once from now on."""
        self._tally.lanes[worker].capacity = capacity
        self._log.write("capacity", worker=worker, capacity=capacity)

    def remark(self, text: str) -> None:
        """What a user was told."""
        self._log.write("remark", text=text)

    def show(self, snapshot: Snapshot, *, ended: str = "") -> None:
        """How far the run is, at most once a second."""
        if ended or self._log.due():
            self._log.show(status_of(snapshot, ended))

    def ended(self, outcome: str, snapshot: Snapshot) -> None:
        """The sitting is over: `finished`, or why not."""
        self.show(snapshot, ended=outcome)
        self._log.write("end", outcome=outcome, completed=snapshot.completed)


def status_of(snapshot: Snapshot, ended: str = "") -> Status:
    """How far a run is, for status.json and whoever watches."""
    return Status(
        at_seconds=round(snapshot.seconds, 3),
        updated_utc=utc_now(),
        ended=ended,
        requests=snapshot.requests,
        completed=snapshot.completed,
        failed=snapshot.failed,
        output_tokens=snapshot.output_tokens,
        wanted_tokens=snapshot.wanted_tokens,
        wanted_done=snapshot.wanted_done,
        serving_seconds=round(snapshot.serving_seconds, 3),
        left_seconds=snapshot.left_seconds,
        lanes=[_lane(number, lane) for number, lane in enumerate(snapshot.lanes)],
    )


def _lane(worker: int, lane: Lane) -> LaneStatus:
    return LaneStatus(
        worker=worker,
        state=lane.state,
        in_flight=lane.in_flight,
        capacity=lane.capacity,
        requests=lane.answered.requests,
        output_tokens=lane.output_tokens,
        deaths=lane.deaths,
        kv_fill=kv_fill(lane.facts),
    )


def kv_fill(facts: Facts) -> float | None:
    """How full an engine says that its KV cache is, from 0 to 1; None if it does not say."""
    for name in _KV_FACTS:
        value = facts.get(name)
        if isinstance(value, (int, float)) and math.isfinite(value):
            return float(value)
    return None
