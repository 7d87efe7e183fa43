"""How long a step takes in a batch of so many, learnt from answers while a run goes on."""

from __future__ import annotations

import numpy as np

_MEMORY_TOKENS = 40_000.0
_DISTINCT = 0.05


class _Worker:
    """What is known of one worker: its batch and the steps it did, by our own reckoning."""

    def __init__(self, now: float) -> None:
        self.since = now
        self.batch = 0
        self.batch_seconds = 0.0
        self.steps = 0.0
        self.tokens = 0.0
        self.seconds = 0.0
        self.mean_batch = 0.0
        self.scale = 1.0


class StepTime:
    """Seconds of a step = scale of the worker x (1 + slope x batch) x unit; fitted over all workers.

    Before anything is measured, `slope` says that a full batch takes twice as long as a single sequence.
    """

    def __init__(self, full_batch: int, slope: float | None = None) -> None:
        self.slope = slope if slope is not None else 1.0 / full_batch
        self.unit = 1.0
        self.measured = False
        self._workers: dict[int, _Worker] = {}

    def seconds(self, worker: int, batch: float) -> float:
        """Of a step of this worker in this batch."""
        known = self._workers.get(worker)
        scale = known.scale if known else 1.0
        return scale * self.unit * (1 + self.slope * batch)

    def largest_batch(self, worker: int, seconds: float) -> float:
        """The batch in which a step of this worker takes so long; below 1 if none does."""
        if not self.slope:
            return np.inf if self.seconds(worker, 1) <= seconds else 0.0
        return (seconds / self.seconds(worker, 0) - 1) / self.slope

    def change(self, worker: int, batch: int, now: float) -> float:
        """This worker's batch is so large from now on; returns the steps it has done."""
        known = self._workers.setdefault(worker, _Worker(now))
        passed = now - known.since
        if passed > 0 and known.batch:
            known.batch_seconds += known.batch * passed
            known.steps += passed / self.seconds(worker, known.batch)
        known.since = now
        known.batch = batch
        return known.steps

    def batch_seconds(self, worker: int) -> float:
        """The integral of its batch over time."""
        return self._workers[worker].batch_seconds

    def observe(self, worker: int, tokens: float, seconds: float, batch: float) -> None:
        """A request of so many tokens took so long, in a batch that was so large on average."""
        known = self._workers[worker]
        kept = _MEMORY_TOKENS / (_MEMORY_TOKENS + tokens)
        known.tokens = known.tokens * kept + tokens
        known.seconds = known.seconds * kept + seconds
        known.mean_batch += (batch - known.mean_batch) * min(1.0, tokens / known.tokens)

    def forget(self, worker: int) -> None:
        """The worker is dead: what comes after it may be another engine, on another device."""
        self._workers.pop(worker, None)

    def fit(self) -> None:
        """Find slope, unit and scales from what was observed."""
        points = [w for w in self._workers.values() if w.tokens > 0]
        if not points:
            return
        batches = np.array([w.mean_batch for w in points])
        taus = np.array([w.seconds / w.tokens for w in points])
        self._fit_slope(batches, taus)
        units = taus / (1 + self.slope * batches)
        self.unit = float(np.median(units))
        for known, unit in zip(points, units.tolist(), strict=True):
            known.scale = unit / self.unit
        self.measured = True

    def _fit_slope(self, batches: np.ndarray, taus: np.ndarray) -> None:
        """The median slope between workers whose batches differ: a slow one among them does not matter much."""
        first, second = np.triu_indices(min(len(batches), 64), 1)
        apart = batches[second] - batches[first]
        enough = np.abs(apart) > _DISTINCT * batches.max()
        if not enough.any():
            return
        rise = float(np.median((taus[second] - taus[first])[enough] / apart[enough]))
        rise = max(0.0, rise)
        base = float(np.median(taus - rise * batches))
        least = 0.01 * float(np.median(taus))
        self.slope = rise / max(base, least)
