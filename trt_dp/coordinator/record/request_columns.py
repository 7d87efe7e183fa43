"""What is noted of each request while it runs: when it was sent, and the records that came back, kept as they are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trt_dp.report.columns import Columns, Floats, Wasted, since_last_answer
from trt_dp.report.counts import Seconds
from trt_dp.types import RECORD, Records

_NOBODY = -1
_SAME_SECONDS = 1e-4

Indices = NDArray[np.int64]
_NONE = np.empty(0, np.int64)


class RequestColumns:
    """Per request who has it and when it was sent; per message the records of its answers, put together at the end."""

    def __init__(self, requests: int) -> None:
        self.sent_at = np.zeros(requests, np.float64)
        self._worker = np.full(requests, _NOBODY, np.int32)
        self._again = np.zeros(requests, np.bool_)
        self._records: list[Records] = [np.empty(0, RECORD)]
        self._moments: list[float | Floats] = [np.empty(0)]
        self._wasted: list[tuple[int, Floats, float]] = []
        self._copies: dict[int, tuple[int, float]] = {}

    def send(self, worker: int, indices: Indices, now: float) -> Indices:
        """These were sent to a worker; returns those that had been sent before and came back without an answer."""
        again = indices[self.sent_at[indices] > 0] if self._wasted else _NONE
        self.sent_at[indices] = now
        self._worker[indices] = worker
        return again

    def copy(self, worker: int, indices: Indices, now: float) -> None:
        """Copies of these, which are in flight elsewhere, were sent to a worker."""
        self._copies.update((index, (worker, now)) for index in indices.tolist())

    def drop(self, worker: int, index: int, now: float) -> bool:
        """Two workers have this, and this one will not answer it; returns whether the copy is what is left."""
        copier, sent_at = self._copies.pop(index)
        if worker == copier:
            self._wasted.append((worker, np.array([sent_at]), now))
            return False
        self._wasted.append((worker, self.sent_at[[index]], now))
        self._worker[index], self.sent_at[index] = copier, sent_at
        return True

    def doubles_of(self, worker: int) -> list[int]:
        """What this worker and another one have in flight."""
        copies = self._copies.items()
        return [i for i, (copier, _) in copies if worker in (copier, self._worker[i])]

    def answer(self, records: Records, now: float) -> None:
        """Answers came, some of them perhaps failures."""
        self._records.append(records)
        self._moments.append(now)

    def lose(self, worker: int, now: float) -> Indices:
        """What this worker has in flight is lost; returns which requests these are."""
        mine = self._worker == worker
        mine[self.gathered()[0]["index"]] = False
        mine[(doubles := self.doubles_of(worker))] = True
        lost = np.flatnonzero(mine)
        for index in doubles:
            self.drop(worker, index, now)
        mine[doubles] = False
        self._come_back(worker, np.flatnonzero(mine), now)
        return lost

    def give_back(self, worker: int, indices: Indices, now: float) -> None:
        """This worker had these in flight, and they came back without an answer."""
        doubles = [index for index in indices.tolist() if index in self._copies]
        for index in doubles:
            self.drop(worker, index, now)
        self._come_back(worker, np.setdiff1d(indices, doubles), now)

    def _come_back(self, worker: int, indices: Indices, now: float) -> None:
        self._wasted.append((worker, self.sent_at[indices].copy(), now))
        self._worker[indices] = _NOBODY
        self._again[indices] = True

    def gathered(self) -> tuple[Records, Floats]:
        """All records so far as one array, and when each came."""
        if len(self._records) > 1:
            counts = [len(records) for records in self._records]
            parts = zip(self._moments, counts, strict=True)
            self._moments = [np.concatenate([np.broadcast_to(at, n) for at, n in parts])]
            self._records = [np.concatenate(self._records)]
        return self._records[0], np.asarray(self._moments[0])

    def durations(self) -> tuple[Seconds, Seconds, Seconds, Seconds]:
        """Latency, first token, queue wait and turnaround of what was completed; NaN where it is not known."""
        records, moments = self.gathered()
        good = records[~records["failed"]]
        turnaround = (moments - self.sent_at[records["index"]]).astype(np.float32)
        return good["total_seconds"], good["first_token_seconds"], good["queue_seconds"], turnaround

    def wasted(self) -> Wasted:
        """What was in flight at each death."""
        sent = [moments for _, moments, _ in self._wasted]
        counts = [len(moments) for moments in sent]
        return Wasted(
            np.repeat(np.array([worker for worker, _, _ in self._wasted], np.int32), counts),
            np.concatenate([*sent, np.empty(0)]),
            np.repeat(np.array([now for _, _, now in self._wasted], np.float64), counts),
        )

    def columns(self) -> Columns:
        """What was completed, on the coordinator's clock."""
        records, answered = self.gathered()
        index = records["index"]
        sent, worker = self.sent_at[index], self._worker[index]
        began = _began(records, sent, answered)
        first = _first_token_at(records, began, answered)
        return Columns(
            worker=worker,
            sent_at=sent,
            began=began,
            first_token_at=began if first is None else first,
            made_from=since_last_answer(worker, began, answered) if first is None else first,
            answered_at=answered,
            input_tokens=records["input_tokens"].astype(np.int64),
            output_tokens=np.where(records["failed"], 0, records["output_tokens"]).astype(np.int64),
            failed=records["failed"].copy(),
            again=self._again[index],
        )


def _began(records: Records, sent: Floats, answered: Floats) -> Floats:
    """When the engine began with each; when it was sent, where that is not known."""
    lasted = (records["total_seconds"] - records["queue_seconds"]).astype(np.float64)
    known = np.isfinite(lasted) & ~records["failed"]
    began: Floats = np.clip(np.where(known, answered - lasted, sent), sent, answered)
    return began


def _first_token_at(records: Records, began: Floats, answered: Floats) -> Floats | None:
    """When each answer's first token came; None for engines that do not tell."""
    rest = (records["total_seconds"] - records["first_token_seconds"]).astype(np.float64)
    known = np.isfinite(rest) & ~records["failed"]
    if not (rest[known] > _SAME_SECONDS).any():
        return None
    first: Floats = np.clip(answered - np.where(known, rest, 0.0), began, answered)
    return first
