"""The places of pending requests, in order: a few numbers where most are pending, and no array of them all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trt_dp.coordinator.order.contract import Indices


class Runs:
    """Rising indices, kept as runs of neighbours."""

    def __init__(self, mask: NDArray[np.bool_]) -> None:
        edges = np.flatnonzero(mask[1:] != mask[:-1]) + 1
        if len(mask):
            edges = np.concatenate([[0] * bool(mask[0]), edges, [len(mask)] * bool(mask[-1])])
        starts, stops = edges[::2].astype(np.int64), edges[1::2].astype(np.int64)
        self._ends = np.cumsum(stops - starts)  # how many indices there are up to each run's end
        self._shift = stops - self._ends  # what is added to a position in a run

    def __len__(self) -> int:
        """How many indices there are."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, part: slice) -> Indices:
        """Some of them, by their position in the order."""
        positions = np.arange(*part.indices(len(self)))
        found: Indices = (
            positions + self._shift[np.searchsorted(self._ends, positions, side="right")]
        )
        return found
