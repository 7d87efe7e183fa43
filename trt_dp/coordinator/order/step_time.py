"""How long a step takes, by the batch and the KV cache it reads: learnt from answers during the run."""

from __future__ import annotations

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_MEMORY_TOKENS = 600_000.0  # of each worker
_LEAST_MEMORY = 5_000_000.0
_SCALE_TOKENS = 30_000.0
_RIDGE = 0.003
_TYPICAL_CONTEXT = 4000.0


class StepShape(Struct, frozen=True):
    """How a step grows: by each sequence, and by each token of KV cache that it reads, in units of an empty step."""

    per_sequence: float
    per_kv_token: float
    seconds: float = 1.0


def unknown_shape(full_batch: int) -> StepShape:
    """Before anything is measured: a full batch doubles a step, and reading the KV cache of long ones does again."""
    return StepShape(1.0 / full_batch, 1.0 / (full_batch * _TYPICAL_CONTEXT))


class Counted:
    """One worker by our own reckoning: its batch, its KV tokens, the steps it did, and how slow it is."""

    def __init__(self, now: float) -> None:
        self.since = now
        self.batch = 0
        self.kv = 0.0
        self.batch_steps = 0.0  # sums over steps
        self.kv_steps = 0.0
        self.steps = 0.0
        self.scale = 1.0
        self.answered = False
        self.took = 0.0
        self.expected = 0.0

    def correct(self, steps: float) -> None:
        """So many steps were done, not as many as was reckoned."""
        self.advance(steps - self.steps)

    def leave(self, requests: int, kv: float) -> None:
        """So many requests are answered, and their KV tokens free."""
        self.batch -= requests
        self.kv = max(0.0, self.kv - kv) if self.batch else 0.0

    def advance(self, steps: float) -> None:
        """So many more steps, in this batch."""
        grown = steps * self.batch
        self.batch_steps += grown
        self.kv_steps += (self.kv + grown / 2) * steps
        self.kv = max(0.0, self.kv + grown)
        self.steps += steps


class StepTime:
    """Seconds of a step = scale of the worker x seconds x (1 + per_sequence x batch + per_kv_token x KV tokens).

    The scale says how slow a worker is; the rest is fitted over all workers, by least squares that forget.
    """

    def __init__(self, shape: StepShape) -> None:
        self.shape = shape
        self._prior = shape
        self.measured = False
        self._workers: dict[int, Counted] = {}
        self._matrix: Floats = np.zeros((3, 3))
        self._vector: Floats = np.zeros(3)

    def seconds(self, worker: int, batch: float, context: float) -> float:
        """Of a step of this worker in this batch, whose sequences have so many tokens in the cache on average."""
        return self.scale(worker) * self.shape.seconds * (1 + self.slope(context) * batch)

    def scale(self, worker: int) -> float:
        """How slow this worker is: 2 takes twice as long for a step as a typical one."""
        known = self._workers.get(worker)
        return known.scale if known else 1.0

    def slope(self, context: float) -> float:
        """By how much each sequence of so many tokens lengthens a step, in units of an empty one."""
        return self.shape.per_sequence + self.shape.per_kv_token * context

    def largest_batch(self, worker: int, seconds: float, context: float) -> float:
        """The batch in which a step of this worker takes so long; below 1 if none does."""
        slope = self.slope(context)
        return (seconds / self.seconds(worker, 0, 0) - 1) / max(slope, 1e-12)

    def change(self, worker: int, batch: int, kv: float, now: float) -> Counted:
        """This worker has so many requests from now on, and so many KV tokens more or less; returns what it did."""
        known = self._workers.setdefault(worker, Counted(now))
        passed = now - known.since
        if passed > 0 and known.batch:
            known.advance(passed / self.seconds(worker, known.batch, known.kv / known.batch))
        known.since = now
        known.batch = batch
        known.kv = max(0.0, known.kv + kv) if batch else 0.0
        return known

    def observe(self, worker: int, tokens: Floats, seconds: Floats, rows: Floats) -> None:
        """Requests of so many tokens took so long; each row is 1, their batch and their KV tokens on average."""
        known = self._workers[worker]
        total = float(tokens.sum())
        shape = np.array((1.0, self.shape.per_sequence, self.shape.per_kv_token))
        kept = _SCALE_TOKENS / (_SCALE_TOKENS + total)
        known.took = known.took * kept + float(seconds.sum())
        known.expected = known.expected * kept + float(tokens @ (rows @ shape)) * self.shape.seconds
        memory = max(_LEAST_MEMORY, _MEMORY_TOKENS * len(self._workers))
        kept = memory / (memory + total)
        scale = known.scale if self.measured else 1.0
        self._matrix = self._matrix * kept + (rows.T * tokens) @ rows
        self._vector = self._vector * kept + seconds @ rows / scale

    def lose(self, worker: int) -> None:
        """The worker is dead: the one that takes its place may be faster or slower."""
        self._workers.pop(worker, None)

    def fit(self) -> None:
        """Find the shape and the scales from what was observed."""
        if not self._matrix[0, 0]:
            return
        before = self.shape
        self.shape = self._solve()
        for known in self._workers.values():
            if known.expected:
                known.expected *= self._ratio(before)
                known.scale = known.took / known.expected
        self._centre()
        self.measured = True

    def _ratio(self, before: StepShape) -> float:
        """By how much steps are longer now than was thought before, in the typical batch."""
        typical = self._matrix[0] / self._matrix[0, 0]
        return _step(self.shape, typical) / _step(before, typical)

    def _centre(self) -> None:
        """A typical worker has scale 1."""
        scales = [known.scale for known in self._workers.values() if known.expected]
        if scales:
            middle = float(np.median(scales))
            for known in self._workers.values():
                known.scale /= middle
                known.expected *= middle
            self.shape = StepShape(
                self.shape.per_sequence, self.shape.per_kv_token, self.shape.seconds * middle
            )

    def _solve(self) -> StepShape:
        """Least squares, drawn a little towards what was thought before anything was measured."""
        weight = self._matrix[0, 0]
        size = np.sqrt(np.diag(self._matrix) / weight)
        size[size == 0] = 1.0
        matrix = self._matrix / weight / np.outer(size, size)
        vector = self._vector / weight / size
        for prior, at in ((self._prior.per_sequence, 1), (self._prior.per_kv_token, 2)):
            row = np.zeros(3)
            row[0], row[at] = -prior * size[at], 1.0
            matrix += _RIDGE * np.outer(row, row)
        used = [0, 1, 2]
        while True:
            found = np.zeros(3)
            found[used] = np.linalg.solve(matrix[np.ix_(used, used)], vector[used])
            wrong = [at for at in used if at and found[at] < 0]
            if not wrong:
                break
            used.remove(min(wrong, key=lambda at: found[at]))
        found /= size
        floor = 0.01 * float(self._vector[0] / weight)
        base = max(float(found[0]), floor)
        return StepShape(float(found[1]) / base, float(found[2]) / base, base)


def _step(shape: StepShape, typical: Floats) -> float:
    grown = shape.per_sequence * typical[1] + shape.per_kv_token * typical[2]
    return float(shape.seconds * (1 + grown))
