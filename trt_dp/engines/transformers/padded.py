"""Decoding in one rectangle: rows padded on the left, which join it and leave it while others are written.

    blank  blank  the    sky    is     |  each row's tokens end at the right edge, so that the next
    blank  two    and    two    make   |  token of all rows is one column; a row that has ended leaves,
    a      longer prompt than   these  |  new rows are read apart and then put below

It works with every model whose KV cache is keys and values for each token, in every version of transformers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from trt_dp.engines.cpu.decoder import OpenTokenizer, Step
from trt_dp.engines.cpu.sampler import Logits
from trt_dp.engines.transformers.decoder import Row, final_width, row_of
from trt_dp.engines.transformers.settings import Limits
from trt_dp.types import Facts, Ids, Request

Mask = NDArray[np.bool_]
_JOIN_SHARE = 8  # a join reads prompts while nobody is written: it waits until so many can share it


class Scores(Protocol):
    """What the model says of the next token of each row."""

    def best(self) -> list[int]:
        """The most likely one of each row."""

    def row(self, number: int) -> Logits:
        """All that it says of one row."""


class Cache(Protocol):
    """The keys and values of a rectangle of tokens."""

    joinable: bool  # otherwise columns cannot be added or removed on the left

    def run(self, ids: Ids, positions: Ids, mask: Mask | None) -> Scores:
        """Append columns; the mask says which of all columns count, in each row."""

    def select(self, rows: list[int]) -> None:
        """Keep only these rows, in this order."""

    def widen(self, columns: int) -> None:
        """Add blank columns on the left."""

    def narrow(self, columns: int) -> None:
        """Remove columns on the left."""

    def append(self, other: Cache) -> None:
        """Put the rows of another cache of the same width below these."""


class Lane:
    """Rows side by side in one cache; `blanks` counts the blank columns at the left of each."""

    def __init__(self, cache: Cache, rows: list[Row], lengths: list[int]) -> None:
        self.cache, self.rows = cache, rows
        self.width = 0
        self.blanks = max(lengths) - np.array(lengths, np.int64)

    def feed(self, ids: Ids) -> Scores:
        """Append columns of ids."""
        columns = np.arange(self.width + ids.shape[1])
        positions = np.maximum(columns[None, self.width :] - self.blanks[:, None], 0)
        mask = columns[None] >= self.blanks[:, None] if self.blanks.any() else None
        scores = self.cache.run(ids, positions, mask)
        self.width = len(columns)
        return scores

    def keep(self, rows: list[int]) -> None:
        """Let all other rows go, and with them columns that nobody needs any more."""
        if len(rows) == len(self.rows):
            return
        self.rows = [self.rows[row] for row in rows]
        self.blanks = self.blanks[rows]
        if self.rows:
            self.cache.select(rows)
            self._shrink()

    def join(self, other: Lane) -> None:
        """Put the rows of another lane below."""
        width = max(self.width, other.width)
        self._stretch(width)
        other._stretch(width)
        self.cache.append(other.cache)
        self.rows = self.rows + other.rows
        self.blanks = np.concatenate([self.blanks, other.blanks])

    def _stretch(self, width: int) -> None:
        if width > self.width:
            self.cache.widen(width - self.width)
            self.blanks = self.blanks + (width - self.width)
            self.width = width

    def _shrink(self) -> None:
        unused = int(self.blanks.min())
        if unused and self.cache.joinable:
            self.cache.narrow(unused)
            self.blanks = self.blanks - unused
            self.width -= unused


class Padded:
    """One lane is written, token by token; another may be read, piece by piece, and then joins it."""

    def __init__(
        self,
        new_cache: Callable[[], Cache],
        limits: Limits,
        eos: frozenset[int],
        open_tokenizer: OpenTokenizer,
    ) -> None:
        self._new_cache, self._limits = new_cache, limits
        self._eos, self._open_tokenizer = eos, open_tokenizer
        self.lookahead = limits.max_sequences
        self._most = limits.max_sequences
        self._joinable = new_cache().joinable
        self._written: Lane | None = None
        self._read: Lane | None = None
        self._prompts = np.zeros((0, 0), np.int64)
        self._steps = self._sequences = self._joins = 0

    def take(self, waiting: deque[Request]) -> list[Request]:
        """Start the oldest, and those of the most similar lengths, once it is worth to read them."""
        free = self._most - len(self._rows)
        enough = max(1, min(self._most // _JOIN_SHARE, len(waiting)))
        if self._read or free < enough or (self._rows and not self._joinable) or not waiting:
            return []
        taken = self._group(waiting, free)
        chosen = {request.index for request in taken}
        left = [request for request in waiting if request.index not in chosen]
        waiting.clear()
        waiting.extend(left)
        if taken:
            self._begin(taken)
        return taken

    def step(self) -> Step:
        """Read a piece of prompts, or write a token of each answer."""
        self._steps += 1
        self._sequences += len(self._rows)
        if self._read:
            return self._read_on(self._read)
        if self._written is None:
            return Step([], [])
        last = np.array([[row.output_ids[-1]] for row in self._written.rows], np.int64)
        return self._write(self._written, self._written.feed(last))

    def restart(self, *, smaller: bool) -> None:
        """Forget the lanes."""
        self._written = self._read = None
        if smaller:
            self._most = max(1, self._most // 2)

    def facts(self) -> Facts:
        """How full the batches were."""
        facts: Facts = {"batching": "padded", "decoded_at_once": self._most}
        if self._steps:
            facts["steps"] = self._steps
            facts["mean_batch"] = round(self._sequences / self._steps, 1)
            facts["joins"] = self._joins
        return facts

    def close(self) -> None:
        """Free the cache."""
        self.restart(smaller=False)

    @property
    def _rows(self) -> list[Row]:
        return [row for lane in (self._written, self._read) if lane for row in lane.rows]

    def _group(self, waiting: deque[Request], free: int) -> list[Request]:
        """As many as there are places and room for, in the rectangle that all of them make in the end."""
        oldest = waiting[0]
        nearest = sorted(waiting, key=lambda r: abs(len(r.input_ids) - len(oldest.input_ids)))
        group: list[Request] = []
        for request in nearest:
            if len(group) < free and self._fits([*group, request]):
                group.append(request)
        return group if oldest in group else []

    def _fits(self, group: list[Request]) -> bool:
        rows = self._rows
        width = max(
            self._written.width if self._written else 0,
            *(len(request.input_ids) for request in group),
        )
        longest = width + max(request.output_tokens for request in group)
        longest = max(longest, final_width(rows, width))
        return (len(rows) + len(group)) * longest <= self._limits.room

    def _begin(self, taken: list[Request]) -> None:
        rows = [row_of(request, self._eos, self._open_tokenizer) for request in taken]
        lengths = [len(request.input_ids) for request in taken]
        self._prompts = np.zeros((len(taken), max(lengths)), np.int64)
        for line, request in zip(self._prompts, taken, strict=True):
            line[len(line) - len(request.input_ids) :] = request.input_ids
        self._read = Lane(self._new_cache(), rows, lengths)

    def _read_on(self, lane: Lane) -> Step:
        piece = max(1, self._limits.max_batched_tokens // len(lane.rows))
        end = lane.width + piece if self._joinable else None
        scores = lane.feed(self._prompts[:, lane.width : end])
        if lane.width < self._prompts.shape[1]:
            return Step([], [])
        self._read = None
        step = self._write(lane, scores)
        if lane.rows and self._written and self._written.rows:
            self._written.join(lane)
            self._joins += 1
        elif lane.rows:
            self._written = lane
        return step

    def _write(self, lane: Lane, scores: Scores) -> Step:
        """Choose each row's next token, and let those go that have all of theirs."""
        best = scores.best()
        for number, row in enumerate(lane.rows):
            if row.plain:
                row.grow(best[number])
            else:
                row.choose(scores.row(number))
        first = [row.request.index for row in lane.rows if len(row.output_ids) == 1]
        ended = [row.answer() for row in lane.rows if row.ended]
        lane.keep([number for number, row in enumerate(lane.rows) if not row.ended])
        if not lane.rows and lane is self._written:
            self._written = None
        return Step(first, ended)
