"""What is noted of each request while it runs: who has it since when, and once it is completed a row of the spool."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from trt_dp.coordinator.record.spool import Came, Rows, Spool
from trt_dp.report.columns import Columns, Floats, Wasted
from trt_dp.report.counts import Seconds
from trt_dp.report.parts import Parts
from trt_dp.types import Records

_SAME_SECONDS = 1e-4

T = TypeVar("T")
Indices = NDArray[np.int64]
_NONE = np.empty(0, np.int64)


class RequestColumns:
    """Of requests in flight who has them and since when; of completed ones a row each, put away part by part."""

    def __init__(self, requests: int, folder: Path | None = None) -> None:
        self.was_sent = np.zeros(requests, np.bool_)
        self._in_flight: dict[int, dict[int, float]] = {}
        self._again: set[int] = set()
        self._last: dict[int, tuple[float, float]] = {}
        self._spool = Spool(folder)
        self._wasted: list[tuple[int, Floats, float]] = []

    def send(self, worker: int, indices: Indices, now: float) -> Indices:
        """These were sent to a worker; returns those that had been sent before and came back without an answer."""
        listed = indices.tolist()
        self._in_flight.setdefault(worker, {}).update(dict.fromkeys(listed, now))
        self.was_sent[indices] = True
        return np.array([i for i in listed if i in self._again], np.int64) if self._again else _NONE

    def copy(self, worker: int, indices: Indices, now: float) -> None:
        """Copies of these, which another worker has too, were sent to a worker."""
        self._in_flight.setdefault(worker, {}).update(dict.fromkeys(indices.tolist(), now))

    def drop(self, worker: int, index: int, now: float) -> None:
        """Another worker has answered this, and this one has it no longer."""
        self._wasted.append((worker, np.array([self._in_flight[worker].pop(index)]), now))

    def elsewhere(self, worker: int, indices: Indices) -> int:
        """How many of these other workers have too."""
        others = [held for other, held in self._in_flight.items() if other != worker]
        return sum(any(index in held for held in others) for index in indices.tolist())

    def in_flight(self) -> tuple[Indices, Floats]:
        """What workers have, and when each was sent."""
        pairs = [pair for held in self._in_flight.values() for pair in held.items()]
        indices, sent_at = zip(*pairs, strict=True) if pairs else ((), ())
        return np.array(indices, np.int64), np.array(sent_at, np.float64)

    def answer(self, worker: int, records: Records, now: float) -> None:
        """Answers came, some of them perhaps failures."""
        mine, indices = self._in_flight[worker], records["index"].tolist()
        came = Came(
            worker=worker,
            moment=now,
            before=self._before(worker, now),
            sent_at=[mine.pop(index) for index in indices],
            again=[index in self._again for index in indices] if self._again else False,
            records=records,
        )
        self._spool.add(came)

    def lose(self, worker: int, now: float) -> Indices:
        """What this worker has in flight is lost; returns which requests these are."""
        lost = np.array(sorted(self._in_flight.get(worker, ())), np.int64)
        self.give_back(worker, lost, now)
        return lost

    def give_back(self, worker: int, indices: Indices, now: float) -> None:
        """This worker had these in flight, and they came back without an answer."""
        mine, listed = self._in_flight.get(worker, {}), indices.tolist()
        self._wasted.append((worker, np.array([mine.pop(index) for index in listed]), now))
        self._again.update(listed)

    def durations(self) -> tuple[Parts[Seconds], Parts[Seconds], Parts[Seconds], Parts[Seconds]]:
        """Latency, first token and queue wait of what was answered, and turnaround; only where they are known."""
        return (
            self._each(lambda rows: _told(rows, "total_seconds")),
            self._each(lambda rows: _told(rows, "first_token_seconds")),
            self._each(lambda rows: _told(rows, "queue_seconds")),
            self._each(lambda rows: _known(rows["answered_at"] - rows["sent_at"])),
        )

    def wasted(self) -> Wasted:
        """What was in flight at each death."""
        sent = [moments for _, moments, _ in self._wasted]
        counts = [len(moments) for moments in sent]
        return Wasted(
            np.repeat(np.array([worker for worker, _, _ in self._wasted], np.int32), counts),
            np.concatenate([*sent, np.empty(0)]),
            np.repeat(np.array([now for _, _, now in self._wasted], np.float64), counts),
        )

    def columns(self) -> Parts[Columns]:
        """What was completed, on the coordinator's clock."""
        tells = any(_tells_first_token(rows) for rows in self._spool.parts())
        return self._each(lambda rows: _columns(rows, tells_first_token=tells))

    def _each(self, change: Callable[[Rows], T]) -> Parts[T]:
        """What all rows are changed to: made once where they fit into memory, and anew each time where not."""
        if self._spool.in_memory:
            made = list(map(change, self._spool.parts()))
            return Parts(lambda: iter(made))
        return Parts(lambda: map(change, self._spool.parts()))

    def _before(self, worker: int, now: float) -> float:
        """When this worker's answers before these came; those of one moment came together."""
        before, last = self._last.get(worker, (-np.inf, -np.inf))
        if now != last:
            before = last
        self._last[worker] = before, now
        return before


def _columns(rows: Rows, *, tells_first_token: bool) -> Columns:
    began, answered = _began(rows), rows["answered_at"]
    first = _first_token_at(rows, began) if tells_first_token else began
    return Columns(
        worker=rows["worker"].astype(np.int32),
        sent_at=rows["sent_at"],
        began=began,
        first_token_at=first,
        made_from=first if tells_first_token else np.maximum(rows["before"], began),
        answered_at=answered,
        input_tokens=rows["input_tokens"].astype(np.int64),
        output_tokens=np.where(rows["failed"], 0, rows["output_tokens"]).astype(np.int64),
        failed=rows["failed"],
        again=rows["again"],
    )


def _told(rows: Rows, name: str) -> Seconds:
    """What engines said of requests that were answered."""
    return _known(rows[name][~rows["failed"]])


def _known(values: Seconds | Floats) -> Seconds:
    """The durations that were measured; what is infinite is no duration."""
    found: Seconds = values[np.isfinite(values)].astype(np.float32)
    return found


def _began(rows: Rows) -> Floats:
    """When the engine began with each; when it was sent, where that is not known."""
    sent, answered = rows["sent_at"], rows["answered_at"]
    lasted = (rows["total_seconds"] - rows["queue_seconds"]).astype(np.float64)
    known = np.isfinite(lasted) & ~rows["failed"]
    began: Floats = np.clip(np.where(known, answered - lasted, sent), sent, answered)
    return began


def _tells_first_token(rows: Rows) -> bool:
    """Whether the engine says when an answer's first token came: before its end."""
    rest, known = _after_first_token(rows)
    return bool((rest[known] > _SAME_SECONDS).any())


def _first_token_at(rows: Rows, began: Floats) -> Floats:
    """When each answer's first token came."""
    rest, known = _after_first_token(rows)
    answered = rows["answered_at"]
    first: Floats = np.clip(answered - np.where(known, rest, 0.0), began, answered)
    return first


def _after_first_token(rows: Rows) -> tuple[Floats, NDArray[np.bool_]]:
    rest = (rows["total_seconds"] - rows["first_token_seconds"]).astype(np.float64)
    return rest, np.isfinite(rest) & ~rows["failed"]
