"""Padded batches, on a model whose every answer depends on all that it may see, and on nothing else."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest

from trt_dp.engines.transformers.padded import Padded
from trt_dp.engines.transformers.settings import Limits
from trt_dp.types import Request, Sampling

VOCABULARY = 97


class SeenIds:
    """A cache that keeps ids: a row's next token follows from the ids that the mask shows, and their places.

    It proves where rows, columns and blanks go; not that transformers' caches can be cut and joined so.
    """

    largest = 0

    def __init__(self, *, joinable: bool = True) -> None:
        self.joinable = joinable
        self.ids = self.places = np.zeros((0, 0), np.int64)

    def run(self, ids, positions, mask):
        if not self.ids.size:
            self.ids = self.places = np.zeros((len(ids), 0), np.int64)
        self.ids = np.hstack([self.ids, ids])
        self.places = np.hstack([self.places, positions])
        SeenIds.largest = max(SeenIds.largest, self.ids.size)
        seen = np.ones_like(self.ids, bool) if mask is None else mask
        assert seen.shape == self.ids.shape
        return Told([_next(*row) for row in zip(self.ids, self.places, seen, strict=True)])

    def select(self, rows):
        self.ids, self.places = self.ids[rows], self.places[rows]

    def widen(self, columns):
        assert self.joinable
        self.ids, self.places = (
            np.pad(a, ((0, 0), (columns, 0)), constant_values=55) for a in (self.ids, self.places)
        )

    def narrow(self, columns):
        assert self.joinable
        self.ids, self.places = self.ids[:, columns:], self.places[:, columns:]

    def append(self, other):
        self.ids = np.vstack([self.ids, other.ids])
        self.places = np.vstack([self.places, other.places])


class Told:
    def __init__(self, tokens):
        self.tokens = tokens

    def best(self):
        return self.tokens

    def row(self, number):
        logits = np.zeros(VOCABULARY, np.float32)
        logits[self.tokens[number]] = 9.0
        return logits


def _next(ids, places, seen) -> int:
    ids, places = ids[seen], places[seen]
    assert places.tolist() == list(range(len(ids)))
    return int((ids * (places + 3)).sum() * 31 + len(ids)) % VOCABULARY


def truth(request: Request, eos: frozenset[int]) -> list[int]:
    """What a request alone is answered, without any cache."""
    ids = request.input_ids.tolist()
    end = len(ids) + request.output_tokens
    while len(ids) < end:
        ids.append(_next(np.array(ids), np.arange(len(ids)), np.ones(len(ids), bool)))
        if ids[-1] in eos and not request.sampling.ignore_eos:
            break
    return ids[len(request.input_ids) :]


def requests(count: int, seed: int, sampling: Sampling | None = None) -> list[Request]:
    random = np.random.default_rng(seed)
    return [
        Request(
            n,
            n,
            random.integers(0, VOCABULARY, random.integers(1, 40)),
            int(random.integers(1, 30)),
            sampling or Sampling(ignore_eos=bool(n % 2)),
        )
        for n in range(count)
    ]


def answers(decoder: Padded, asked: list[Request]) -> dict[int, list[int]]:
    waiting, found = deque(asked), {}
    while len(found) < len(asked):
        taken = decoder.take(waiting)
        assert len({one.index for one in taken}) == len(taken)
        for ended in decoder.step().ended:
            assert ended.request.index not in found
            found[ended.request.index] = ended.output_ids
    return found


def decoder(joinable=True, room=4000, eos=frozenset(), sequences=6) -> Padded:
    limits = Limits(max_sequences=sequences, max_batched_tokens=24, room=room)
    return Padded(lambda: SeenIds(joinable=joinable), limits, eos, lambda: None)


@pytest.mark.parametrize("joinable", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_each_row_sees_its_own_tokens_and_no_others(joinable, seed):
    """Whatever joins and leaves, each answer is that of its request alone, up to its end of text."""
    eos = frozenset({5, 6})
    asked = requests(40, seed)
    made = decoder(joinable, eos=eos)
    found = answers(made, asked)
    assert found == {one.index: truth(one, eos) for one in asked}
    assert (made.facts()["joins"] > 0) == joinable


def test_sampling_does_not_change_what_a_row_sees():
    """Rows that are sampled share batches with others, and their tokens are as certain as the model is."""
    asked = requests(20, 9, Sampling(temperature=0.1, seed=4, ignore_eos=True))
    asked += [Request(100 + one.index, 0, one.input_ids, 7) for one in requests(9, 3)]
    found = answers(decoder(), asked)
    assert found == {one.index: truth(one, frozenset()) for one in asked}


@pytest.mark.parametrize("room", [70, 150])
def test_a_rectangle_never_has_more_tokens_than_there_is_room(room):
    """Requests wait until all of a batch have room to their ends; one that fits alone is never starved."""
    SeenIds.largest = 0
    asked = requests(30, 1)
    assert len(answers(decoder(room=room), asked)) == 30
    assert SeenIds.largest <= room


def test_after_a_restart_nothing_is_in_progress():
    """What was in progress is forgotten; others are answered, in smaller batches if that was asked for."""
    made = decoder()
    made.take(deque(requests(6, 2)))
    made.step()
    made.restart(smaller=True)
    asked = requests(10, 3)
    assert answers(made, asked) == {one.index: truth(one, frozenset()) for one in asked}
    assert made.facts()["decoded_at_once"] == 3
