"""What is counted during a run: when requests were sent and answered, and which worker was idle when."""

from __future__ import annotations

import math
from time import perf_counter

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from trt_dp.report.counts import Counts, WorkerCounts
from trt_dp.report.schema import Activity, Death
from trt_dp.types import Facts, Records


class _Stretch:
    """An activity that happens again and again: its first start, its last end, and the seconds spent in it."""

    def __init__(self) -> None:
        self.first = 0.0
        self.last = 0.0
        self.busy = 0.0
        self.requests = 0

    def add(self, started: float, ended: float, requests: int) -> None:
        self.first = self.first or started
        self.last = ended
        self.busy += ended - started
        self.requests += requests

    def activity(self) -> Activity:
        span = self.last - self.first
        rate = self.requests / span if span else 0.0
        return Activity(
            requests=self.requests,
            span_seconds=span,
            busy_seconds=self.busy,
            requests_per_second=rate,
        )


class _Worker:
    """One worker as the coordinator sees it: with requests in flight, or idle since a moment."""

    def __init__(self) -> None:
        self.requests = self.input_tokens = self.output_tokens = self.deaths = self.in_flight = 0
        self.load_seconds = 0.0
        self.facts: Facts = {}
        self.idle = 0.0
        self.idle_since: float | None = None
        self.unreplaced: int | None = (
            None  # its last death, as long as its successor has nothing to do
        )

    def hold(self, change: int, now: float) -> None:
        if self.in_flight and not self.in_flight + change:
            self.idle_since = now
        elif not self.in_flight and change > 0 and self.idle_since is not None:
            self.idle += now - self.idle_since
            self.idle_since = None
        self.in_flight += change


class Tally:
    """The numbers of one session of a run; `counts` gives them once it is over."""

    def __init__(self, requests: int, workers: int) -> None:
        self._sent_at = np.zeros(requests, np.float64)
        self._turnaround = np.full(requests, np.nan, np.float32)
        self._queue = np.full(requests, np.nan, np.float32)
        self._first_token = np.full(requests, np.nan, np.float32)
        self._total = np.full(requests, np.nan, np.float32)
        self._sending, self._receiving = _Stretch(), _Stretch()
        self._workers = [_Worker() for _ in range(workers)]
        self._deaths: list[Death] = []
        self.failed = self.redone = self.output_tokens = 0

    @property
    def last_send(self) -> float:
        """When the last request was sent so far."""
        return self._sending.last

    def ready(self, worker: int, load_seconds: float) -> None:
        """A worker is ready, with nothing in flight."""
        self._workers[worker].load_seconds = load_seconds if math.isfinite(load_seconds) else 0.0
        self._workers[worker].idle_since = perf_counter()

    def told(self, worker: int, facts: Facts) -> None:
        """What an engine says about itself; the latest counts."""
        self._workers[worker].facts = {
            name: value if isinstance(value, str) or math.isfinite(value) else str(value)
            for name, value in facts.items()
        }

    def sent(self, worker: int, indices: NDArray[np.int64], started: float) -> None:
        """Requests were sent to a worker."""
        now = perf_counter()
        self._sent_at[indices] = now
        self._sending.add(started, now, len(indices))
        mine = self._workers[worker]
        mine.hold(len(indices), now)
        if mine.unreplaced is not None:
            death = self._deaths[mine.unreplaced]
            back = now - death.at_seconds
            self._deaths[mine.unreplaced] = structs.replace(death, back_after_seconds=back)
            mine.unreplaced = None

    def came(self, worker: int, records: Records, started: float) -> None:
        """Answers came from a worker and are in the journal."""
        now, index = perf_counter(), records["index"]
        answered = records[~records["failed"]]
        mine = self._workers[worker]
        output_tokens = int(answered["output_tokens"].sum())
        mine.requests += len(answered)
        mine.input_tokens += int(answered["input_tokens"].sum())
        mine.output_tokens += output_tokens
        mine.hold(-len(records), now)
        self.output_tokens += output_tokens
        self.failed += len(records) - len(answered)
        self._turnaround[index] = now - self._sent_at[index]
        self._queue[answered["index"]] = answered["queue_seconds"]
        self._first_token[answered["index"]] = answered["first_token_seconds"]
        self._total[answered["index"]] = answered["total_seconds"]
        self._receiving.add(started, now, len(records))

    def lost(self, worker: int, given_up: int, reason: str) -> None:
        """A worker died; what it had in flight runs again, except what is given up."""
        mine, now = self._workers[worker], perf_counter()
        mine.deaths += 1
        mine.unreplaced = len(self._deaths)
        death = Death(worker=worker, reason=reason, at_seconds=now, requests=mine.in_flight)
        self._deaths.append(death)
        self.redone += mine.in_flight - given_up
        mine.hold(-mine.in_flight, now)
        mine.idle_since = None

    def gave_up(self, requests: int) -> None:
        """Requests failed without an answer from a worker."""
        self.failed += requests

    def counts(self) -> Counts:
        """Everything, for the report."""
        end = self._receiving.last
        serving = end - self._sending.first if self._receiving.requests else 0.0
        return Counts(
            serving_seconds=serving,
            sending=self._sending.activity(),
            receiving=self._receiving.activity(),
            workers=[self._worker(mine, end) for mine in self._workers],
            failed=self.failed,
            redone=self.redone,
            latency=_known(self._total),
            first_token=_known(self._first_token),
            queue_wait=_known(self._queue),
            turnaround=_known(self._turnaround),
            deaths=self._deaths,
        )

    def _worker(self, mine: _Worker, end: float) -> WorkerCounts:
        still_idle = max(0.0, end - mine.idle_since) if mine.idle_since is not None else 0.0
        return WorkerCounts(
            requests=mine.requests,
            input_tokens=mine.input_tokens,
            output_tokens=mine.output_tokens,
            load_seconds=mine.load_seconds,
            idle_seconds=mine.idle + still_idle,
            deaths=mine.deaths,
            facts=mine.facts,
        )


def _known(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The durations that were measured, sorted; sorts in place, where missing ones come last."""
    values[np.isinf(values)] = np.nan  # not a duration
    values.sort()
    return values[: len(values) - int(np.count_nonzero(np.isnan(values)))]
