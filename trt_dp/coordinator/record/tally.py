"""What is counted during a run: when requests were sent and answered, and which worker was idle when."""

from __future__ import annotations

import math
from pathlib import Path
from time import perf_counter

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from trt_dp.coordinator.record.lane import Lane, Way
from trt_dp.coordinator.record.request_columns import RequestColumns
from trt_dp.dataset.line_table import Column
from trt_dp.report.columns import State, StateChange
from trt_dp.report.counts import Counts, WorkerCounts
from trt_dp.report.schema import Activity, Death
from trt_dp.report.sections import WorkerLedger
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


class Tally:
    """The numbers of one session of a run; `counts` returns them at the end.

    `input_tokens` and `wanted_tokens` are those of the dataset's index. Without the former, as where prompts
    are text, the ledger counts no tokens. What a long sitting notes goes into a file in `folder`.
    """

    def __init__(
        self,
        requests: int,
        workers: int,
        input_tokens: Column | None = None,
        wanted_tokens: Column | None = None,
        folder: Path | None = None,
    ) -> None:
        self._requests = RequestColumns(requests, folder)
        self._input_tokens = input_tokens
        none = np.broadcast_to(np.uint8(0), requests)
        self._wanted = none if wanted_tokens is None else wanted_tokens
        self.wanted_done = 0
        self._sending, self._receiving = _Stretch(), _Stretch()
        self.lanes = [Lane() for _ in range(workers)]
        self._states: list[StateChange] = []
        self._deaths: list[Death] = []
        self.resent = Way()
        self.failed = self.redone = self.output_tokens = self.failed_unanswered = 0
        self.copies = self.copies_won = 0
        self._copies: set[tuple[int, int]] = set()
        self.token_seconds = 0.0  # that answers were in engines, without waiting there

    def enlist(self, workers: int) -> None:
        """So many more workers will come."""
        self.lanes.extend(Lane() for _ in range(workers))

    @property
    def last_send(self) -> float:
        """When the last request was sent so far."""
        return self._sending.last

    @property
    def was_sent(self) -> NDArray[np.bool_]:
        """Which requests were sent at least once."""
        return self._requests.was_sent

    def in_flight(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """What workers have, and when each was sent."""
        return self._requests.in_flight()

    @property
    def serving_seconds(self) -> float:
        """How long ago the first request was sent."""
        return perf_counter() - self._sending.first if self._sending.requests else 0.0

    def entered(self, worker: int, state: State) -> None:
        """A worker entered a state."""
        self.lanes[worker].state = state
        self._states.append(StateChange(worker, state, perf_counter()))

    def ready(self, worker: int, load_seconds: float, capacity: int = 0) -> None:
        """A worker is ready, with nothing in flight."""
        self.entered(worker, "ready")
        lane = self.lanes[worker]
        lane.load_seconds = load_seconds if math.isfinite(load_seconds) else 0.0
        lane.idle_since, lane.capacity = perf_counter(), capacity

    def told(self, worker: int, facts: Facts) -> None:
        """What an engine says about itself; the latest counts."""
        self.lanes[worker].facts = {
            name: value if isinstance(value, str) or math.isfinite(value) else str(value)
            for name, value in facts.items()
        }

    def sent(self, worker: int, indices: NDArray[np.int64], started: float) -> None:
        """Requests were sent to a worker."""
        now = perf_counter()
        again = self._requests.send(worker, indices, now)
        if len(again):
            self.resent.add(len(again), self._tokens(again))
        self._sending.add(started, now, len(indices))
        lane = self.lanes[worker]
        lane.sent.add(len(indices), self._tokens(indices))
        lane.hold(len(indices), now)
        if lane.unreplaced is not None:
            death = self._deaths[lane.unreplaced]
            back = now - death.at_seconds
            self._deaths[lane.unreplaced] = structs.replace(death, back_after_seconds=back)
            lane.unreplaced = None

    def copied(self, worker: int, indices: NDArray[np.int64]) -> None:
        """Copies of what others have in flight were sent to a worker."""
        now, tokens = perf_counter(), self._tokens(indices)
        self._requests.copy(worker, indices, now)
        self.resent.add(len(indices), tokens)
        self.lanes[worker].sent.add(len(indices), tokens)
        self.lanes[worker].hold(len(indices), now)
        self.copies += len(indices)
        self._copies.update((worker, index) for index in indices.tolist())

    def beaten(self, worker: int, index: int) -> None:
        """Another worker answered this first; called before `came` for that answer."""
        now, lane = perf_counter(), self.lanes[worker]
        self.copies_won += (worker, index) not in self._copies
        self._requests.drop(worker, index, now)
        lane.lost.add(1, self._tokens(np.array([index])))
        lane.hold(-1, now)

    def came(self, worker: int, records: Records, started: float) -> None:
        """Answers came from a worker and are in the journal."""
        now = perf_counter()
        failures = records["failed"]
        answered = records[~failures] if failures.any() else records
        lane = self.lanes[worker]
        output_tokens, input_tokens = (
            int(answered["output_tokens"].sum()),
            int(answered["input_tokens"].sum()),
        )
        lane.answered.add(len(answered), input_tokens)
        if len(answered) < len(records):
            failed = len(records) - len(answered)
            lane.failed.add(failed, int(records["input_tokens"].sum()) - input_tokens)
            self.failed += failed
        lane.output_tokens += output_tokens
        lane.hold(-len(records), now)
        self.output_tokens += output_tokens
        lasted = answered["total_seconds"] - answered["queue_seconds"]
        self.token_seconds += float(lasted[np.isfinite(lasted)].sum())
        self.wanted_done += int(self._wanted[records["index"]].sum(dtype=np.int64))
        self._requests.answer(worker, records, now)
        self._receiving.add(started, now, len(records))

    def lost(self, worker: int, given_up: int, reason: str) -> None:
        """A worker died; what it had in flight runs again, except what is given up."""
        lane, now = self.lanes[worker], perf_counter()
        lost = self._requests.lose(worker, now)
        elsewhere = self._requests.elsewhere(worker, lost) if self._copies else 0
        lane.lost.add(len(lost), self._tokens(lost))
        lane.deaths += 1
        lane.unreplaced = len(self._deaths)
        death = Death(worker=worker, reason=reason, at_seconds=now, requests=lane.in_flight)
        self._deaths.append(death)
        self.redone += lane.in_flight - given_up - elsewhere
        lane.hold(-lane.in_flight, now)
        lane.idle_since = None

    def given_back(self, worker: int, indices: NDArray[np.int64], given_up: int) -> None:
        """A living worker has no answer to these; they run again, except what is given up."""
        lane, now = self.lanes[worker], perf_counter()
        elsewhere = self._requests.elsewhere(worker, indices) if self._copies else 0
        self._requests.give_back(worker, indices, now)
        lane.lost.add(len(indices), self._tokens(indices))
        self.redone += len(indices) - given_up - elsewhere
        lane.hold(-len(indices), now)

    def gave_up(self, requests: int) -> None:
        """Requests failed without an answer from a worker."""
        self.failed += requests
        self.failed_unanswered += requests

    def counts(self) -> Counts:
        """Everything, for the report."""
        end, noted = self._receiving.last, self._requests
        serving = end - self._sending.first if self._receiving.requests else 0.0
        latency, first_token, queue_wait, turnaround = noted.durations()
        return Counts(
            serving_seconds=serving,
            sending=self._sending.activity(),
            receiving=self._receiving.activity(),
            workers=[_counts(lane, end) for lane in self.lanes],
            failed=self.failed,
            redone=self.redone,
            copies=self.copies,
            copies_won=self.copies_won,
            latency=latency,
            first_token=first_token,
            queue_wait=queue_wait,
            turnaround=turnaround,
            deaths=self._deaths,
            columns=noted.columns(),
            wasted=noted.wasted(),
            states=self._states,
        )

    def ledgers(self) -> list[WorkerLedger]:
        """What each worker was sent, and what became of it."""
        known = self._input_tokens is not None
        return [
            WorkerLedger(
                worker=number,
                sent=lane.sent.account(tokens=known),
                answered=lane.answered.account(tokens=known),
                failed=lane.failed.account(tokens=known),
                lost=lane.lost.account(tokens=known),
            )
            for number, lane in enumerate(self.lanes)
        ]

    def _tokens(self, indices: NDArray[np.int64]) -> int:
        return (
            0
            if self._input_tokens is None
            else int(self._input_tokens[indices].sum(dtype=np.int64))
        )


def _counts(lane: Lane, end: float) -> WorkerCounts:
    still_idle = max(0.0, end - lane.idle_since) if lane.idle_since is not None else 0.0
    return WorkerCounts(
        requests=lane.answered.requests,
        input_tokens=lane.answered.input_tokens,
        output_tokens=lane.output_tokens,
        load_seconds=lane.load_seconds,
        idle_seconds=lane.idle + still_idle,
        deaths=lane.deaths,
        facts=lane.facts,
    )
