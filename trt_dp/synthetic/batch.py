"""Requests as arrays: what generators and tokenizers make, and encoders write."""

from __future__ import annotations

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Lengths = NDArray[np.int64]
Tokens = NDArray[np.int32]


class Batch(Struct, frozen=True):
    """Successive requests: their ids end to end, their lengths, and their names in JSON where they have any.

    Formats of text need `texts`, and `answers` where they hold them; `arrivals` are in microseconds.
    """

    first: int
    ids: Tokens
    inputs: Lengths
    outputs: Lengths
    names: list[bytes] | None = None
    texts: list[str] | None = None
    answers: list[str] | None = None
    arrivals: Lengths | None = None

    def prompts(self) -> list[list[int]]:
        """The ids of each request."""
        cuts = np.cumsum(self.inputs)[:-1]
        return [piece.tolist() for piece in np.split(self.ids, cuts)]
