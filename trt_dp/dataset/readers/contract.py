"""What a reader is: it recognises one format and gives the rows of an input as Fields, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import numpy as np
from msgspec import Raw, Struct
from numpy.typing import NDArray

from trt_dp.dataset.fields import Fields
from trt_dp.dataset.inputs import Opened


class Options(Struct, frozen=True, kw_only=True):
    """The columns that a user named for tables, and where a reader says which ones it found by itself."""

    prompt: str | None = None
    messages: str | None = None
    ids: str | None = None
    id: str | None = None
    say: Callable[[str], None] = lambda _text: None


class Bad(NamedTuple):
    """An invalid row: why, and its id and the fields that are only passed on, where they can be read."""

    reason: str
    task_id: int | str | None = None
    more: dict[str, Raw] = {}  # noqa: RUF012 - nobody changes it


class Blank(NamedTuple):
    """A blank line: no row, but it counts when lines are numbered."""


class Block(NamedTuple):
    """Many rows at once, whose ids lie one after the other in `ids`; a row's own Fields hold none."""

    rows: list[Fields | Bad]
    ids: NDArray[np.int32]
    lengths: list[int]


Row = Fields | Bad | Blank | Block


class Reader(Protocol):
    """A format. `unit` is what messages call a row; `line` turns one line into Fields, where rows are lines."""

    unit: str
    line: Callable[[bytes], Fields] | None

    def recognise(self, head: bytes, name: str) -> bool:
        """Whether an input that begins like this, or has this name, is of this format."""

    def rows(self, opened: Opened, options: Options) -> Iterator[Row]:
        """The rows in order; raises DatasetError where the input as a whole cannot be read."""
