"""A number for each request in few bytes: there may be many millions of requests."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.unsignedinteger[Any]]


class Compact:
    """Numbers from 0 on, in the smallest type that holds all that were put here."""

    def __init__(self, count: int) -> None:
        self._values: Numbers = np.zeros(count, np.uint8)
        self._most = 255

    def __len__(self) -> int:
        """How many there are."""
        return len(self._values)

    def __getitem__(self, places: Any) -> NDArray[np.int64]:
        """The numbers at these places."""
        found: NDArray[np.int64] = self._values[places].astype(np.int64)
        return found

    def put(self, places: NDArray[np.int64], numbers: NDArray[Any]) -> None:
        """Keep these numbers at these places."""
        if (largest := int(numbers.max(initial=0))) > self._most:
            self._values = self._values.astype(np.min_scalar_type(largest))
            self._most = int(np.iinfo(self._values.dtype).max)
        self._values[places] = numbers

    def nonzero(self) -> NDArray[np.bool_]:
        """Where the number is not 0."""
        found: NDArray[np.bool_] = self._values != 0
        return found


class Offsets:
    """Places in a file of any size: 5 bytes each, as long as it is smaller than a terabyte."""

    def __init__(self, count: int) -> None:
        self._high, self._low = Compact(count), np.zeros(count, np.uint8)

    def __getitem__(self, places: Any) -> NDArray[np.int64]:
        """The offsets at these places."""
        found: NDArray[np.int64] = (self._high[places] << 8) + self._low[places]
        return found

    def put(self, places: NDArray[np.int64], offsets: NDArray[np.int64]) -> None:
        """Keep these offsets at these places."""
        self._high.put(places, offsets >> 8)
        self._low[places] = offsets & 255
