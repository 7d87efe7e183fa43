"""Token ids between JSON text and arrays: the work that a dataset of ids costs most of its time for."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import numpy as np
import simdjson
from msgspec import Meta

from trt_dp.errors import UNREADABLE, BadLine
from trt_dp.system.reasons import why
from trt_dp.types import Ids

MAX_ID = 2**31 - 1

_decode = msgspec.json.Decoder(list[Annotated[int, Meta(ge=0, le=MAX_ID)]]).decode
_parser: Any = simdjson.Parser()


def parse(text: bytes) -> Ids:
    """The ids in a JSON list; raises BadLine unless it is a flat list of at least one number in range."""
    found = _fast(text)
    if found is None:
        found = _slow(text)
    if not len(found):
        msg = "`input_ids` is empty"
        raise BadLine(msg)
    return found


def _fast(text: bytes) -> Ids | None:
    """By simdjson; None for anything but numbers in range, which the slow way then words or accepts."""
    if text.find(b"[", 1) > 0:  # it would flatten lists in lists
        return None
    try:
        found = np.frombuffer(_parser.parse(text).as_buffer(of_type="u"), np.uint64)
    except (ValueError, TypeError, AttributeError, OverflowError, RuntimeError):
        return None
    return found.view(np.int64) if len(found) and found.max() <= MAX_ID else None


def _slow(text: bytes) -> Ids:
    try:
        return np.array(_decode(text), np.int64)
    except UNREADABLE as error:
        raise BadLine(why(error, "input_ids")) from error
