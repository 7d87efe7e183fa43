"""Which ids there are to draw from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from trt_dp.demo import NAME, SIZE, SPECIAL, byte_ids, bytes_of
from trt_dp.errors import UsageError
from trt_dp.synthetic.batch import Tokens
from trt_dp.synthetic.encode import MAX_VOCABULARY
from trt_dp.tokenizer import Tokenizer


class Vocabulary(Struct, frozen=True):
    """The ids of a model: how many there are, and the ones that prompts may hold."""

    name: str
    size: int
    usable: Tokens
    said: str


class DemoTokenizer:
    """The demo model's: an id for every byte, after the special ones."""

    def __init__(self) -> None:
        self.name = NAME
        self.own = set(range(SIZE))
        self.special = set(range(len(SPECIAL)))

    def encode(self, texts: list[str], *, special: bool = False) -> list[list[int]]:
        """One id for each byte of UTF-8; nothing frames a prompt."""
        del special
        return [byte_ids(text) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        """The bytes of these ids as text."""
        return bytes_of(ids).decode(errors="replace")


def demo() -> Vocabulary:
    """The demo model's ids."""
    said = f"the demo model's, {SIZE} ids (--tokenizer or --vocab-size choose another)"
    return _vocabulary(NAME, SIZE, set(range(len(SPECIAL))), said)


def learned(tokenizer: Tokenizer) -> Vocabulary:
    """The ids of a tokenizer, without its special ones."""
    plain = tokenizer.own - tokenizer.special
    size = max(tokenizer.own | tokenizer.special, default=-1) + 1
    said = f"{tokenizer.name}'s, {len(plain):,} ids without the {len(tokenizer.special):,} special ones"
    return _vocabulary(tokenizer.name, size, set(range(size)) - plain, said)


def sized(size: int, special: set[int]) -> Vocabulary:
    """A vocabulary of which only the size is known, and the ids to leave out."""
    if not 1 <= size <= MAX_VOCABULARY:
        msg = f"--vocab-size is {size}: it must be from 1 to {MAX_VOCABULARY:,}"
        raise UsageError(msg)
    left = f" without {len(special)} special ones" if special else ""
    return _vocabulary("model", size, special, f"{size:,} ids{left}, as given")


def _vocabulary(name: str, size: int, special: set[int], said: str) -> Vocabulary:
    if size > MAX_VOCABULARY:
        msg = f"the vocabulary of {name} has {size:,} ids: {MAX_VOCABULARY:,} is the most"
        raise UsageError(msg)
    if special and (min(special) < 0 or max(special) >= size):
        msg = f"--special-ids must lie in the vocabulary, from 0 to {size - 1}"
        raise UsageError(msg)
    usable = np.ones(size, np.bool_)
    usable[list(special)] = False
    if not usable.any():
        msg = f"the vocabulary of {name} has no id that is not special"
        raise UsageError(msg)
    return Vocabulary(name, size, np.flatnonzero(usable).astype(np.int32), said)
