"""What each worker has in flight, and how far it is by our own reckoning."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from trt_dp.coordinator.order.contract import NOTHING, Answered, Indices
from trt_dp.coordinator.order.guess import Floats
from trt_dp.coordinator.order.step_time import Counted, StepTime


class InFlight:
    """Which requests each worker has, and how far it was, in steps and batch seconds, when they left."""

    def __init__(self, prompts: Floats) -> None:
        size = len(prompts)
        self._prompts = prompts
        self._sent = np.zeros(size)
        self._kv_steps = np.zeros(size)
        self._steps = np.zeros(size)
        self._batch_steps = np.zeros(size)
        self._of: dict[int, dict[int, None]] = {}
        self._measured = False

    def add(self, worker: int, indices: Indices, steps: StepTime, now: float) -> None:
        """These left for this worker."""
        mine = self._of.setdefault(worker, {})
        kv = float(self._prompts[indices].sum())
        known = steps.change(worker, len(mine) + len(indices), kv, now)
        self._steps[indices] = known.steps
        self._batch_steps[indices] = known.batch_steps
        self._kv_steps[indices] = known.kv_steps
        self._sent[indices] = now
        mine.update(dict.fromkeys(indices.tolist()))

    def remove(self, answered: Answered, steps: StepTime, now: float) -> None:
        """These came back: what they tell of step times goes to `steps`."""
        worker, mine = answered.worker, self._of.get(answered.worker, {})
        here = np.array([mine.pop(index, 0) is None for index in answered.indices.tolist()])
        indices, tokens = answered.indices[here], answered.tokens[here]
        known = steps.change(worker, len(mine) + len(indices), 0.0, now)
        if len(indices):  # an answer tells exactly how many steps were done since it left
            known.correct(float((self._steps[indices] + tokens).max()))
            known.answered = True
        done = known.steps - self._steps[indices]
        known.leave(len(indices), float((self._prompts[indices] + tokens).sum()))
        seconds = answered.seconds[here]
        useful = (done > 0) & (tokens > 0) & (seconds > 0) & np.isfinite(seconds)
        if not useful.all():
            indices, tokens, seconds, done = (x[useful] for x in (indices, tokens, seconds, done))
        if len(indices):
            steps.observe(worker, tokens, seconds, self._averages(known, indices, done, tokens))

    def _averages(self, known: Counted, indices: Indices, done: Floats, tokens: Indices) -> Floats:
        """For each of these a 1, and over the steps that it took the batch and its KV tokens on average."""
        rows = np.ones((len(indices), 3))
        rows[:, 1] = (known.batch_steps - self._batch_steps[indices]) / done
        if self._measured:
            rows[:, 2] = (known.kv_steps - self._kv_steps[indices]) / done
        else:  # all began together, and have grown alike
            rows[:, 2] = rows[:, 1] * (self._prompts[indices].mean() + tokens / 2)
        return rows

    def forget(self, worker: int, indices: Iterable[int], steps: StepTime, now: float) -> None:
        """These came back without an answer: they tell nothing of step times."""
        mine = self._of.get(worker, {})
        here = [index for index in indices if mine.pop(index, 0) is None]
        steps.change(worker, len(mine), -float(self._prompts[here].sum()), now)

    def measure(self, steps: StepTime, now: float) -> None:
        """Reckon what workers without an answer have done, once it is known how long steps take."""
        steps.fit()
        self._measured = steps.measured
        for worker, mine in self._of.items():
            known = steps.change(worker, len(mine), 0.0, now)
            if mine and not known.answered:
                indices = np.fromiter(mine, np.int64, len(mine))
                step = steps.seconds(worker, len(mine), float(self._prompts[indices].mean()))
                known.correct(float(now - self._sent[indices].min()) / step)

    def lose(self, worker: int) -> None:
        """All that this worker had is gone from it."""
        self._of.pop(worker, None)

    def of(self, worker: int, steps: StepTime, now: float) -> tuple[Indices, np.ndarray]:
        """What this worker has, and the tokens of each that are done."""
        mine = self._of.get(worker, {})
        indices = np.fromiter(mine, np.int64, len(mine))
        done = steps.change(worker, len(mine), 0.0, now).steps - self._steps[indices]
        return indices, np.maximum(0.0, done)

    def progress(self, steps: StepTime, now: float) -> tuple[Indices, np.ndarray]:
        """The same of all workers."""
        parts = [self.of(worker, steps, now) for worker in self._of]
        indices = [part[0] for part in parts] or [NOTHING]
        done = [part[1] for part in parts] or [np.empty(0)]
        return np.concatenate(indices), np.concatenate(done)
