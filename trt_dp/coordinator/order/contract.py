"""What an order is: the pending requests of a session, and who gets how many of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Indices = NDArray[np.int64]
Clock = Callable[[], float]

SUSPECTS_TOGETHER = (
    16  # so many of those that were in a worker that died may run beside other work in another
)
NOTHING = np.empty(0, np.int64)


class Asking(Struct, frozen=True, kw_only=True):
    """A worker that may take more: what it has in flight, what its engine takes, and how the run stands.

    `kv_tokens` is what the KV cache of its engine holds, if it says so.
    `waiting` is what came back from workers and waits to run again, wherever; this one may get `again` of them.
    """

    worker: int
    in_flight: int
    limit: int
    unfinished: int
    workers: int
    kv_tokens: int = 0
    waiting: Indices = NOTHING
    again: int = 0


class Answered(Struct, frozen=True):
    """Answers of a worker: their tokens, and the seconds that each was in its engine, without waiting there."""

    worker: int
    indices: Indices
    tokens: Indices
    seconds: NDArray[np.float64]


class Order(Protocol):
    """The pending requests. Each leaves once; a worker with nothing in flight always gets some while there are any."""

    def __len__(self) -> int:
        """How many are pending."""

    def take(self, asking: Asking) -> Indices:
        """What this worker gets now: possibly nothing, never more than it has room for."""

    def again(self, asking: Asking, waiting: Indices) -> Indices:
        """Which of these this worker gets now: they left before, and came back from workers; at most asking.again."""

    def learn(self, answered: Answered) -> None:
        """These are completed; called after they left by `take`, in any order."""

    def forget(self, worker: int, indices: Iterable[int]) -> None:
        """This worker, which lives, gave these back without an answer; they come back only by `again`."""

    def lose(self, worker: int, indices: Iterable[int]) -> list[int]:
        """This worker died with these in flight; returns them in the order in which to run them again."""


def equal_share(unfinished: int, workers: int) -> int:
    """How many requests one of these workers may have in flight: an equal part of what is unfinished."""
    return -(-unfinished // max(1, workers))


def as_they_came(asking: Asking, waiting: Indices) -> Indices:
    """The first of those that came back, as many as the worker has room for in an equal share."""
    share = min(asking.limit, equal_share(asking.unfinished, asking.workers))
    return waiting[: max(0, min(asking.again, share - asking.in_flight))]
