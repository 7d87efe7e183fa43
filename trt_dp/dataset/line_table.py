"""Where the requests of a dataset lie and what they hold, in the fewest bytes: there may be many millions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_dp.dataset.piece import LINE

Column = NDArray[np.unsignedinteger[Any]]
_COUNTS = ("length", "input_tokens", "output_tokens", "kind")
NAMES = ("starts", "bases", "ahead", *_COUNTS)


class LineTable:
    """LINEs as columns, each of the smallest type that fits; one that holds a single value takes no memory.

    The rows of a piece lie close to each other: an offset is kept as the piece's first byte (`bases`) and how far
    ahead of it a row lies (`ahead`). `starts` is the first row of each piece.
    """

    def __init__(self, columns: Mapping[str, NDArray[Any]]) -> None:
        self._starts = columns["starts"].astype(np.int64)
        self._bases = columns["bases"].astype(np.int64)
        self._columns = {name: _smallest(columns[name]) for name in ("ahead", *_COUNTS)}

    def __len__(self) -> int:
        """How many requests there are."""
        return len(self._columns["kind"])

    def __getitem__(self, name: str) -> Column:
        """A column; one of small unsigned numbers, so sums and differences need a wider type."""
        return self._columns[name]

    def rows(self, places: Any) -> NDArray[np.void]:
        """These requests as LINEs."""
        whole = isinstance(places, slice)
        indices = np.arange(len(self))[places] if whole else np.asarray(places, np.int64)
        found = np.empty(len(indices), LINE)
        found["offset"] = self._offsets(indices)
        for name in _COUNTS:
            found[name] = self._columns[name][indices]
        return found

    def _offsets(self, indices: NDArray[Any]) -> NDArray[np.int64]:
        piece = np.searchsorted(self._starts, indices, side="right") - 1
        ahead = self._columns["ahead"][indices].astype(np.int64)
        found: NDArray[np.int64] = self._bases[piece] + ahead
        return found

    def end(self) -> int:
        """Where the last byte of any request lies."""
        cuts = [*self._starts.tolist(), len(self)]
        ahead, length = self._columns["ahead"], self._columns["length"]
        ends = (
            int(base) + int(np.add(ahead[first:stop], length[first:stop], dtype=np.int64).max())
            for base, first, stop in zip(self._bases, cuts, cuts[1:], strict=False)
            if stop > first
        )
        return max(ends, default=0)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All of it, to be kept."""
        return {"starts": self._starts, "bases": self._bases, **self._columns}


class Gathered:
    """A table that grows by a piece at a time."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._bases: list[int] = []
        self._count = 0
        self._columns = {name: _Growing() for name in ("ahead", *_COUNTS)}

    def add(self, lines: NDArray[np.void]) -> None:
        """The rows of the next piece."""
        if not len(lines):
            return
        base = int(lines["offset"].min())
        self._starts.append(self._count)
        self._bases.append(base)
        self._count += len(lines)
        self._columns["ahead"].add(lines["offset"] - base)
        for name in _COUNTS:
            self._columns[name].add(lines[name])

    def table(self) -> LineTable:
        """All rows, of which there will be no more."""
        columns: dict[str, NDArray[Any]] = {
            "starts": np.array(self._starts, np.int64),
            "bases": np.array(self._bases, np.int64),
        }
        columns |= {name: column.values() for name, column in self._columns.items()}
        return LineTable(columns)


class _Growing:
    """A column in one piece of memory, which grows in its place; many pieces would leave holes behind."""

    def __init__(self) -> None:
        self._content, self._kind = bytearray(), np.dtype(np.uint8)

    def add(self, numbers: NDArray[Any]) -> None:
        kind = np.min_scalar_type(int(numbers.max(initial=0)))
        if kind.itemsize > self._kind.itemsize:
            self._content, self._kind = bytearray(self.values().astype(kind)), kind
        self._content += numbers.astype(self._kind).data.cast("B")

    def values(self) -> Column:
        return np.frombuffer(self._content, self._kind)


def table_of(lines: Iterable[NDArray[np.void]]) -> LineTable:
    """The table of these pieces."""
    gathered = Gathered()
    for piece in lines:
        gathered.add(piece)
    return gathered.table()


def fits(columns: Mapping[str, NDArray[Any]], size: int) -> bool:
    """Whether arrays that were kept can be a table about a file of this size: no request lies outside it."""
    counts = [columns[name] for name in ("ahead", *_COUNTS)]
    starts, bases = columns["starts"], columns["bases"]
    if any(one.dtype.kind != "u" or one.ndim != 1 for one in counts):
        return False
    if any(one.dtype != np.int64 or one.ndim != 1 for one in (starts, bases)):
        return False
    if not len(counts[0]) or {len(one) for one in counts} != {len(counts[0])}:
        return False
    if not len(starts) or len(starts) != len(bases) or starts[0] or (np.diff(starts) < 0).any():
        return False
    inside = 0 <= int(bases.min()) <= int(bases.max()) <= size and starts[-1] <= len(counts[0])
    small = max(int(one.max()) for one in counts[:4]) <= max(size, np.iinfo(np.int32).max)
    return bool(inside and small) and LineTable(columns).end() <= size


def _smallest(values: NDArray[Any]) -> Column:
    """In the smallest type; a single value stands for all of the same."""
    kind = np.min_scalar_type(int(values.max(initial=0)))
    if len(values) and (values[0] == values).all():
        return np.broadcast_to(values[0].astype(kind), values.shape)
    return values.astype(kind, copy=False)
