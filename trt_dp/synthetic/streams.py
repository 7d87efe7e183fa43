"""Streams of random numbers: the same for a seed on every machine, and reached at any place without what is before it.

Everything comes from the raw 64-bit output of PCG64, which numpy guarantees never to change, by arithmetic
of our own, because numpy's distributions may change between versions. Each kind of number has its own
stream, so that no two are correlated.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trt_dp.synthetic.batch import Lengths, Tokens
from trt_dp.synthetic.portable_math import Reals, normal

INPUTS, OUTPUTS, IDS, GROUPS, PREFIXES, ANSWERS, REPAIRS = range(7)
ARRIVALS = 16  # and all after it: each attempt at a gamma number has streams of its own
_GAUSS_PIECE = 1 << 15
_ONE_WORD = 2**32
_HALF = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)

Raw = NDArray[np.uint64]


def draw(seed: int, stream: int, count: int, skip: int = 0) -> Raw:
    """`count` raw numbers of a stream, from its `skip`th on."""
    bits = np.random.PCG64(_sequence(seed, stream))
    bits.advance(skip)
    return np.asarray(bits.random_raw(count), np.uint64)


def _sequence(seed: int, stream: int) -> np.random.SeedSequence:
    """The origin of a stream; a seed beyond 32 bits must not fill the word in which the stream stands."""
    if seed >= _ONE_WORD:
        return np.random.SeedSequence(seed, spawn_key=(stream,))
    return np.random.SeedSequence((seed, stream))


def below(raw: Raw, bound: int) -> Lengths:
    """Integers in [0, bound) from the upper halves; their probabilities differ by at most 2^-32."""
    found: Lengths = (((raw >> _HALF) * np.uint64(bound)) >> _HALF).astype(np.int64)
    return found


def unit(raw: Raw) -> Reals:
    """Numbers strictly between 0 and 1, each from one raw number."""
    found: Reals = ((raw >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
    return found


def gauss(seed: int, stream: int, count: int) -> NDArray[np.float64]:
    """Standard normal numbers, each from one raw number; in pieces, to save memory."""
    found = np.empty(count)
    for first in range(0, count, _GAUSS_PIECE):
        raw = draw(seed, stream, min(_GAUSS_PIECE, count - first), first)
        found[first : first + len(raw)] = normal(unit(raw))
    return found


def draw_ids(usable: Tokens, seed: int, skip: int, count: int, stream: int = IDS) -> Tokens:
    """Usable ids from the `skip`th on; each raw number makes two."""
    raw, bound = draw(seed, stream, count // 2 + 2, skip // 2), np.uint64(len(usable))
    picks = np.empty(2 * len(raw), np.int64)
    picks[::2] = ((raw & _LOW) * bound) >> _HALF
    picks[1::2] = ((raw >> _HALF) * bound) >> _HALF
    odd = skip % 2
    return usable[picks[odd : odd + count]]
