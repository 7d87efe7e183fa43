"""What is noted of each request while it runs, in arrays that are as long as the dataset."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trt_dp.report.columns import Columns, Wasted, since_last_answer
from trt_dp.types import Records

_NOBODY = -1
_SAME_SECONDS = 1e-4

Indices = NDArray[np.int64]


class RequestColumns:
    """Per request: who has it, when it was sent, and what its answer told; NaN where that is not known."""

    def __init__(self, requests: int) -> None:
        self.sent_at = np.zeros(requests, np.float64)
        self.turnaround = np.full(requests, np.nan, np.float32)
        self.queue = np.full(requests, np.nan, np.float32)
        self.first_token = np.full(requests, np.nan, np.float32)
        self.total = np.full(requests, np.nan, np.float32)
        self._worker = np.full(requests, _NOBODY, np.int32)
        self._input_tokens = np.zeros(requests, np.int32)
        self._output_tokens = np.zeros(requests, np.int32)
        self._again = np.zeros(requests, np.bool_)
        self._wasted: list[tuple[int, NDArray[np.float64], float]] = []

    def send(self, worker: int, indices: Indices, now: float) -> Indices:
        """These were sent to a worker; returns those that had been sent before."""
        again = indices[self.sent_at[indices] > 0]
        self.sent_at[indices] = now
        self._worker[indices] = worker
        return again

    def answer(self, records: Records, answered: Records, now: float) -> None:
        """Answers came, some of them perhaps failures."""
        index, good = records["index"], answered["index"]
        self.turnaround[index] = now - self.sent_at[index]
        self._input_tokens[index] = records["input_tokens"]
        self.queue[good] = answered["queue_seconds"]
        self.first_token[good] = answered["first_token_seconds"]
        self.total[good] = answered["total_seconds"]
        self._output_tokens[good] = answered["output_tokens"]

    def lose(self, worker: int, now: float) -> Indices:
        """What this worker has in flight is lost; returns which requests these are."""
        lost = np.flatnonzero((self._worker == worker) & np.isnan(self.turnaround))
        self._wasted.append((worker, self.sent_at[lost].copy(), now))
        self._worker[lost] = _NOBODY
        self._again[lost] = True
        return lost

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
        done = np.flatnonzero(~np.isnan(self.turnaround))
        sent = self.sent_at[done]
        answered = sent + self.turnaround[done]
        failed = np.isnan(self.total[done])
        began = answered - (self.total[done] - self.queue[done])
        began = np.clip(np.where(np.isfinite(began), began, sent), sent, answered)
        first = self._first_token_at(done, began, answered)
        worker = self._worker[done]
        return Columns(
            worker=worker,
            sent_at=sent,
            began=began,
            first_token_at=began if first is None else first,
            made_from=since_last_answer(worker, began, answered) if first is None else first,
            answered_at=answered,
            input_tokens=self._input_tokens[done].astype(np.int64),
            output_tokens=self._output_tokens[done].astype(np.int64),
            failed=failed,
            again=self._again[done],
        )

    def _first_token_at(
        self, done: Indices, began: NDArray[np.float64], answered: NDArray[np.float64]
    ) -> NDArray[np.float64] | None:
        """When each answer's first token came; None for engines that do not tell."""
        rest = self.total[done] - self.first_token[done]
        if not (rest > _SAME_SECONDS).any():
            return None
        first = answered - np.where(np.isfinite(rest), rest, 0.0)
        return np.clip(first, began, answered)
