"""What an order is: the pending requests of a session, and who gets how many of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Indices = NDArray[np.int64]
Clock = Callable[[], float]

NOTHING = np.empty(0, np.int64)


class Asking(Struct, frozen=True):
    """A worker that may take more: what it has in flight, what its engine takes, and how the run stands."""

    worker: int
    in_flight: int
    limit: int
    unfinished: int
    workers: int


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

    def learn(self, answered: Answered) -> None:
        """These are completed; called after they left by `take`, in any order."""

    def forget(self, worker: int, indices: Iterable[int]) -> None:
        """This worker, which lives, gave these back without an answer; they do not come back to this order."""

    def lose(self, worker: int, indices: Iterable[int]) -> list[int]:
        """This worker died with these in flight, which are suspects now; returns which to try again first."""


def equal_share(unfinished: int, workers: int) -> int:
    """How many requests one of these workers may have in flight: an equal part of what is unfinished."""
    return -(-unfinished // max(1, workers))
