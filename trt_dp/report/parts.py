"""Values of every request, in parts of bounded size that may lie on disk: never all of them at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

T = TypeVar("T")
Values = NDArray[Any]

_HALF = 1 << 16  # how many numbers half of a 32-bit key can be
_SIGN = np.uint32(1 << 31)
_FEW = 1 << 17


class Parts(Generic[T]):
    """Parts that are made anew each time they are gone through."""

    def __init__(self, make: Callable[[], Iterator[T]]) -> None:
        self._make = make

    def __iter__(self) -> Iterator[T]:
        """All of them, one after the other."""
        return self._make()


class Extent(Struct, frozen=True):
    """How many values there are, their sum, and the least and the largest of them."""

    count: int = 0
    total: float = 0.0
    least: float = np.inf
    largest: float = -np.inf


def extent(parts: Iterable[Values]) -> Extent:
    """The extent of all values."""
    found = Extent()
    for values in parts:
        if len(values):
            kind = np.float64 if values.dtype.kind == "f" else np.int64
            found = Extent(
                found.count + len(values),
                found.total + float(values.sum(dtype=kind)),
                min(found.least, float(values.min())),
                max(found.largest, float(values.max())),
            )
    return found


def at_ranks(parts: Iterable[NDArray[np.float32]], ranks: Sequence[int], count: int) -> list[float]:
    """The values that would be at these places, were all of these float32 sorted: exactly, in little memory."""
    if count <= _FEW:
        ordered = np.sort(np.concatenate(list(parts)))
        return [float(ordered[rank]) for rank in ranks]
    counts = _count(parts, lambda keys: keys >> 16)
    ends = np.cumsum(counts)
    high = [int(np.searchsorted(ends, rank, side="right")) for rank in ranks]
    before = [rank - int(ends[one] - counts[one]) for rank, one in zip(ranks, high, strict=True)]
    low = {one: np.cumsum(_count(parts, _within(one))) for one in set(high)}
    return [
        _value((one << 16) + int(np.searchsorted(low[one], rest, side="right")))
        for one, rest in zip(high, before, strict=True)
    ]


def _count(
    parts: Iterable[NDArray[np.float32]], half: Callable[[Values], Values]
) -> NDArray[np.int64]:
    """How often each half of a key occurs."""
    found = np.zeros(_HALF, np.int64)
    for values in parts:
        found += np.bincount(half(_keys(values)), minlength=_HALF)
    return found


def _within(high: int) -> Callable[[Values], Values]:
    """The low halves of the keys that begin like this."""
    return lambda keys: keys[keys >> 16 == high] & (_HALF - 1)


def _keys(values: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Numbers in the order of the values."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return np.where(bits & _SIGN, ~bits, bits | _SIGN)


def _value(key: int) -> float:
    bits = key - (1 << 31) if key >> 31 else ~key & 0xFFFFFFFF
    return float(np.array(bits, np.uint32).view(np.float32))
