"""Pending requests by length: the longest that is not longer than so much, in next to no time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trt_dp.coordinator.order.contract import Indices

Lengths = NDArray[np.float64]


class Ranked:
    """Requests sorted by length; each is there until it is taken. Of equal ones, the first in the file goes first."""

    def __init__(self, indices: Indices, lengths: Lengths) -> None:
        falling = np.argsort(-lengths, kind="stable")[::-1]
        self.indices = indices[falling]
        self.lengths = lengths[falling]
        self._alive = np.ones(len(indices), np.bool_)
        self._below = list(range(len(indices)))  # the nearest that is there, at or below; -1: none
        self._left = len(indices)

    def __len__(self) -> int:
        """How many are there."""
        return self._left

    def rising(self) -> Lengths:
        """The lengths of all that are there, the shortest first."""
        return self.lengths[self._alive]

    def remaining(self) -> Indices:
        """The requests that are there, in the order of the file."""
        return np.sort(self.indices[self._alive])

    def take(self, room: int, longest: float) -> Indices:
        """Take up to `room` of those that are not longer than this, the longest of them first."""
        start = len(self.lengths)
        if longest < np.inf:
            start = int(np.searchsorted(self.lengths, longest, side="right"))
        return self._take_from(start - 1, room)

    def take_between(self, room: int, shortest: float, longest: float) -> Indices:
        """Take up to `room` of those that are longer than one length, and not longer than another."""
        first = int(np.searchsorted(self.lengths, shortest, side="right"))
        stop = int(np.searchsorted(self.lengths, longest, side="right"))
        return self._take_from(stop - 1, min(room, int(self._alive[first:stop].sum())))

    def take_every(self, step: int, room: int, longest: float) -> Indices:
        """Take up to `room` of those that are not longer than this, from the longest, but only every so many."""
        stop = int(np.searchsorted(self.lengths, longest, side="right"))
        falling = np.flatnonzero(self._alive[:stop])[::-1]
        return self.take_places(falling[: room * step : step])

    def take_places(self, places: NDArray[np.int64]) -> Indices:
        """Take the requests at these places, counted from the shortest of all; those that are not there are not."""
        here = places[self._alive[places]]
        for place in here.tolist():
            self._below[place] = place - 1
        self._alive[here] = False
        self._left -= len(here)
        return self.indices[here]

    def take_shortest(self, room: int) -> Indices:
        """Take up to `room` of the shortest."""
        places = np.flatnonzero(self._alive)[:room]
        return self._take_from(int(places[-1]), room) if len(places) else self.indices[:0]

    def _take_from(self, place: int, room: int) -> Indices:
        places: list[int] = []
        place = self._find(place)
        while place >= 0 and len(places) < room:
            places.append(place)
            self._below[place] = place - 1
            place = self._find(place - 1)
        self._alive[places] = False
        self._left -= len(places)
        return self.indices[places]

    def _find(self, place: int) -> int:
        """The nearest place at or below this one where a request still is; paths are shortened on the way."""
        below = self._below
        root = place
        while root >= 0 and below[root] != root:
            root = below[root]
        while place >= 0 and below[place] != root and place != root:
            below[place], place = root, below[place]
        return root
