"""Requests as arrays: what generators and tokenizers make, and encoders write."""

from __future__ import annotations

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Lengths = NDArray[np.int64]
Tokens = NDArray[np.int32]


class Batch(Struct, frozen=True):
    """Successive requests: their ids end to end, their lengths, and their names in JSON where they have any."""

    first: int
    ids: Tokens
    inputs: Lengths
    outputs: Lengths
    names: list[bytes] | None = None
