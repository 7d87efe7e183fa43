"""Decoding in static batches, for a CPU on which OpenVINO has no paged attention."""

from __future__ import annotations

from collections import deque
from collections.abc import Set as AbstractSet
from typing import Protocol

import numpy as np

from trt_dp.engines.cpu.decoder import (
    BLOCK,
    DecoderSettings,
    Ended,
    Facts,
    Found,
    Step,
    Told,
    stops_of,
    watch_of,
)
from trt_dp.engines.cpu.sampler import Logits, Sampler
from trt_dp.text.stop_strings import Watch
from trt_dp.types import Ids, Progress, Request


class Batch(Protocol):
    """A model that remembers the batch it works on, row by row."""

    precision: str

    def forget(self) -> None:
        """What comes next is another batch."""

    def logits(self, ids: Ids, mask: Ids, positions: Ids, rows: Ids) -> Logits:
        """Feed these ids, and return the logits after the last; `rows` says which earlier rows continue."""


class Static:
    """One batch at a time, padded on the left: empty, reading its prompts piece by piece, or writing answers.

    Whoever has its tokens leaves the batch; no request joins it.
    """

    def __init__(self, model: Batch, settings: DecoderSettings, why: str) -> None:
        self._model, self._settings, self._why = model, settings, why
        self.lookahead = settings.max_sequences  # to find prompts of similar lengths among them
        self._rows: list[_Row] = []
        self._ids = self._mask = np.zeros((0, 0), np.int64)
        self._going = np.zeros(0, np.int64)
        self._read = self._steps = self._sequences = 0

    def take(self, waiting: deque[Request]) -> list[Request]:
        """When the batch is empty, start the oldest and those of the most similar lengths."""
        if self._rows or not waiting:
            return []
        taken = _group(list(waiting), self._settings)
        chosen = {request.index for request in taken}
        left = [request for request in waiting if request.index not in chosen]
        waiting.clear()
        waiting.extend(left)
        self._start(taken)
        return taken

    def step(self) -> Step:
        """Read a piece of the prompts, or write a token of each answer."""
        self._steps += 1
        self._sequences += len(self._rows)
        width = self._ids.shape[1]
        piece = max(1, self._settings.max_batched_tokens // len(self._rows))
        start, self._read = self._read, min(self._read + piece, width)
        logits = self._logits(start)
        if self._read < width:
            return Step([], [])
        return self._write(logits)

    def progress(self, indexes: AbstractSet[int]) -> list[Progress]:
        """What these rows have written since the last call."""
        told = [row.tell() for row in self._rows if row.request.index in indexes]
        return [one for one in told if one]

    def cancel(self, index: int) -> None:
        """Take its row out of the batch."""
        stay = [place for place, row in enumerate(self._rows) if row.request.index != index]
        self._rows = [self._rows[place] for place in stay]
        self._going = self._going[stay]
        self._ids, self._mask = self._ids[stay], self._mask[stay]

    def facts(self) -> Facts:
        """Precision and attention; once it has run, how full the batches were."""
        facts: Facts = {"precision": self._model.precision, "attention": f"static ({self._why})"}
        if self._steps:
            facts["steps"] = self._steps
            facts["mean_batch"] = round(self._sequences / self._steps, 1)
        return facts

    def _start(self, taken: list[Request]) -> None:
        self._rows = [_row(request, self._settings) for request in taken]
        width = max(len(request.input_ids) for request in taken)
        self._ids = np.zeros((len(taken), width), np.int64)
        self._mask = np.zeros_like(self._ids)
        for row, request in enumerate(taken):
            self._ids[row, width - len(request.input_ids) :] = request.input_ids
            self._mask[row, width - len(request.input_ids) :] = 1
        self._read, self._going = 0, np.arange(len(taken))
        self._model.forget()

    def _logits(self, start: int) -> Logits:
        """Feed the columns from `start` to what is now read."""
        positions = np.maximum(self._mask.cumsum(1) - 1, 0)
        logits = self._model.logits(
            self._ids[:, start : self._read],
            self._mask[:, : self._read],
            positions[:, start : self._read],
            self._going,
        )
        self._going = np.arange(len(self._rows))
        return logits

    def _write(self, logits: Logits) -> Step:
        """Choose each row's next token, and let those go that have all of theirs."""
        for row, line in zip(self._rows, logits, strict=True):
            row.grow(line)
        first = [row.request.index for row in self._rows if len(row.output_ids) == 1]
        ended = [row for row in self._rows if row.ended]
        self._going = np.array(
            [place for place, row in enumerate(self._rows) if row not in ended], np.int64
        )
        self._rows = [self._rows[place] for place in self._going]
        new = np.array([[row.output_ids[-1]] for row in self._rows], np.int64).reshape(-1, 1)
        self._ids = np.hstack([self._ids[self._going], new])
        self._mask = np.hstack([self._mask[self._going], np.ones_like(new)])
        return Step(
            first,
            [
                Ended(request=row.request, output_ids=row.output_ids, logprobs=row.logprobs)
                for row in ended
            ],
        )


class _Row:
    """A request in the batch, with its answer so far: it grows until it is `ended`."""

    def __init__(self, request: Request, stops: frozenset[int], watch: Watch | None) -> None:
        self.request, self._stops, self._watch = request, stops, watch
        self.output_ids: list[int] = []
        self.logprobs: list[float] = []
        self.ended = False
        self._sampler = Sampler(request, stops)
        self._told = Told()

    def grow(self, logits: Logits) -> None:
        """Choose the next token, and see whether it is the last."""
        chosen = self._sampler.choose(logits, self.output_ids)
        self.output_ids.append(chosen)
        if self.request.sampling.logprobs is not None:
            self.logprobs.append(self._sampler.logprob(logits, chosen))
        found = self._watch.grows([chosen]) if self._watch else False
        whole = len(self.output_ids) == self.request.output_tokens
        self.ended = whole or found or chosen in self._stops

    def tell(self) -> Progress | None:
        """What was written since the last time."""
        return self._told.tell(self.request, Found(self.output_ids, self.logprobs), self._stops)


def _row(request: Request, settings: DecoderSettings) -> _Row:
    watch = watch_of(request, settings.open_tokenizer)
    return _Row(request, stops_of(request, settings.eos), watch)


def _group(waiting: list[Request], settings: DecoderSettings) -> list[Request]:
    """The oldest, and the nearest to it in length, as many as there are rows and room for their padded rectangle."""
    oldest = waiting[0]
    nearest = sorted(waiting, key=lambda r: abs(len(r.input_ids) - len(oldest.input_ids)))
    group = [oldest]
    for request in nearest:
        wider = [*group, request]
        if request is not oldest and _rectangle(wider) <= settings.blocks * BLOCK:
            group = wider
        if len(group) == settings.max_sequences:
            break
    return group


def _rectangle(group: list[Request]) -> int:
    """How many tokens the cache of a padded batch needs in the end."""
    width = max(len(request.input_ids) for request in group)
    return len(group) * (width + max(request.output_tokens for request in group))
