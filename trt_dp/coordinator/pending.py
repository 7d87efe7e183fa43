"""The requests that no worker had yet, and the order in which they leave."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


class Pending:
    """Requests that leave in the order in which they are given here: today that of the file."""

    def __init__(self, indices: Indices) -> None:
        self._indices = indices
        self._next = 0

    def __len__(self) -> int:
        """How many are left."""
        return len(self._indices) - self._next

    def take(self, limit: int) -> Indices:
        """The next requests: `limit` of them, or all that are left."""
        taken = self._indices[self._next : self._next + limit]
        self._next += len(taken)
        return taken


def equal_share(unfinished: int, workers: int) -> int:
    """How many requests one of these workers may have in flight: an equal part of what is unfinished."""
    return -(-unfinished // max(1, workers))
