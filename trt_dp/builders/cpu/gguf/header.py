"""The header of a GGUF file: its metadata and where each tensor is; every length is checked before it is read.

GGUF  version  counts | key, type, value ... | name, dimensions, type, offset ... | tensors, each aligned
"""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
from msgspec import Struct

from trt_dp.builders.cpu.checkpoint import Tensor
from trt_dp.errors import UsageError

BLOCKS = {
    "F32": (1, 4),
    "F16": (1, 2),
    "BF16": (1, 2),
    "Q4_0": (32, 18),
    "Q4_1": (32, 20),
    "Q5_0": (32, 22),
    "Q5_1": (32, 24),
    "Q8_0": (32, 34),
    "Q2_K": (256, 84),
    "Q3_K": (256, 110),
    "Q4_K": (256, 144),
    "Q5_K": (256, 176),
    "Q6_K": (256, 210),
    "IQ4_NL": (32, 18),
    "IQ4_XS": (256, 136),
}
"""The types that can be read: how many values a block has, and how many bytes."""

_TYPES = {0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 10: "Q2_K"}
_TYPES |= {11: "Q3_K", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 20: "IQ4_NL", 23: "IQ4_XS", 30: "BF16"}
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q"}
_SCALARS |= {12: "d"}
_STRING, _ARRAY = 8, 9
_VERSIONS = (2, 3)
_MOST_BYTES = 100_000_000  # of a header; those of real models have 1 to 20 million
_MOST_ITEMS = 2_000_000  # in an array, and of tensors; the largest vocabularies have some 300,000
_MOST_DIMENSIONS = 4
_MOST_LETTERS = 200  # of a name; gguf's own limit is 64


class Header(Struct, frozen=True):
    """What a GGUF file says about its model; the tensors have the names that they have in the file."""

    file: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


def read(file: Path) -> Header:
    """Read a header; raises UsageError for a file that is not GGUF, cut short, or makes no sense."""
    # GGUF, version, counts | key, type, value ... | name, shape, type, offset ... | aligned tensors
    with file.open("rb") as stream:
        cursor = _Cursor(file, stream)
        tensors, keys = _counts(cursor)
        metadata = _metadata(cursor, keys)
        entries = [_entry(cursor) for _ in range(tensors)]
    start = _aligned(cursor.position, _alignment(file, metadata))
    return Header(file, metadata, _placed(cursor, start, entries))


def broken(file: Path, what: str) -> NoReturn:
    """Refuse a file whose bytes cannot be right."""
    msg = f"{file} is broken: {what}; download or write it again"
    raise UsageError(msg)


class _Cursor:
    """Reads a file from front to back, never more than a header can have."""

    def __init__(self, file: Path, stream: BinaryIO) -> None:
        self.file, self._stream = file, stream
        self.size = file.stat().st_size
        self.position = 0

    def take(self, count: int) -> bytes:
        self.position += count
        if self.position > min(self.size, _MOST_BYTES):
            broken(self.file, f"its header does not end within its {self.size:,} bytes")
        taken = self._stream.read(count)
        if len(taken) != count:
            broken(self.file, "it became shorter while it was read")
        return taken

    def number(self, code: str) -> Any:
        return struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")))[0]

    def count(self, what: str) -> int:
        found: int = self.number("Q")
        if found > _MOST_ITEMS:
            broken(self.file, f"it says that it has {found:,} {what}")
        return found

    def text(self) -> str:
        raw = self.take(self.number("Q"))
        try:
            return raw.decode()
        except UnicodeDecodeError:
            broken(self.file, f"it has text that is not UTF-8 before byte {self.position:,}")

    def name(self) -> str:
        """A text short and plain enough to be shown."""
        found = self.text()
        if len(found) > _MOST_LETTERS or not found.isprintable():
            broken(self.file, f"it has a name that makes no sense before byte {self.position:,}")
        return found

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            return self._array()
        if kind not in _SCALARS:
            broken(self.file, f"it has a value of type {kind} before byte {self.position:,}")
        value = self.number(_SCALARS[kind])
        return _shortest(value) if kind == 6 else value

    def _array(self) -> list[Any]:
        kind, count = self.number("I"), self.count("values in a list")
        if kind == _STRING:
            return [self.text() for _ in range(count)]
        if kind not in _SCALARS:
            broken(self.file, f"it has a list of type {kind} before byte {self.position:,}")
        stored = np.dtype(f"<{_SCALARS[kind]}")
        found: list[Any] = np.frombuffer(self.take(count * stored.itemsize), stored).tolist()
        return found


def _shortest(value: float) -> float:
    """The decimal number that was stored as float32: 1e-5, not 9.999999747378752e-06."""
    return float(str(np.float32(value)))


def _counts(cursor: _Cursor) -> tuple[int, int]:
    if cursor.size < 4 or cursor.take(4) != b"GGUF":
        msg = f"{cursor.file} is not a GGUF file: its first bytes are not GGUF; download it again"
        raise UsageError(msg)
    version = cursor.number("I")
    if version not in _VERSIONS:
        kind = "big-endian" if version & 0xFFFF == 0 else f"version {version}"
        msg = (
            f"{cursor.file} is {kind} GGUF; only little-endian files of version 2 or 3 can be built"
        )
        raise UsageError(msg)
    return cursor.count("tensors"), cursor.count("keys")


def _metadata(cursor: _Cursor, count: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _ in range(count):
        key = cursor.name()
        if key in found:
            broken(cursor.file, f"{key} is there twice")
        found[key] = cursor.value(cursor.number("I"))
    return found


class _Entry(Struct, frozen=True):
    """A tensor as the header names it."""

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int


def _entry(cursor: _Cursor) -> _Entry:
    name, dimensions = cursor.name(), cursor.number("I")
    if not 1 <= dimensions <= _MOST_DIMENSIONS:
        broken(cursor.file, f"tensor {name} has {dimensions} dimensions")
    shape = tuple(cursor.number("Q") for _ in range(dimensions))[::-1]  # the file says rows last
    kind, offset = cursor.number("I"), cursor.number("Q")
    return _Entry(name=name, shape=shape, kind=kind, offset=offset)


def _alignment(file: Path, metadata: Mapping[str, Any]) -> int:
    given = metadata.get("general.alignment", 32)
    if type(given) is not int or given < 1 or given & (given - 1):
        broken(file, f"its general.alignment is {given!r}")
    return given


def _aligned(position: int, alignment: int) -> int:
    return -(-position // alignment) * alignment


def _placed(cursor: _Cursor, start: int, entries: list[_Entry]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for entry in entries:
        if entry.name in found:
            broken(cursor.file, f"tensor {entry.name} is there twice")
        found[entry.name] = _tensor(cursor, start, entry)
    _check_apart(cursor.file, list(found.values()))
    return found


def _tensor(cursor: _Cursor, start: int, entry: _Entry) -> Tensor:
    kind = _TYPES.get(entry.kind)
    if kind is None:
        known = ", ".join(BLOCKS)
        msg = f"{cursor.file} has tensor {entry.name} as type {entry.kind}; known: {known}"
        raise UsageError(msg)
    values, size = BLOCKS[kind]
    if entry.shape[-1] % values:
        broken(cursor.file, f"tensor {entry.name} of shape {list(entry.shape)} is not whole {kind}")
    length = math.prod(entry.shape) // values * size
    if not length or start + entry.offset + length > cursor.size:
        end = start + entry.offset + length
        broken(cursor.file, f"tensor {entry.name} ends at byte {end:,} of {cursor.size:,}")
    return Tensor(
        name=entry.name,
        file=cursor.file,
        dtype=kind,
        shape=entry.shape,
        offset=start + entry.offset,
        size=length,
    )


def _check_apart(file: Path, tensors: list[Tensor]) -> None:
    ordered = sorted(tensors, key=lambda tensor: (tensor.offset, tensor.size))
    for one, other in itertools.pairwise(ordered):
        if one.offset + one.size > other.offset:
            broken(file, f"tensors {one.name} and {other.name} overlap")
