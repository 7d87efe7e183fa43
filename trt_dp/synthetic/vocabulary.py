"""The ids that prompts are drawn from."""

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
    """The ids of a model: all below `size`, those that prompts may hold, and how many NVIDIA's document counts."""

    name: str
    size: int
    usable: Tokens
    description: str
    counted: int


class DemoTokenizer:
    """The demo model's: an id for every byte, after the special ones."""

    def __init__(self) -> None:
        self.name = NAME
        self.own = set(range(SIZE))
        self.vocab_size = SIZE
        self.special = set(range(len(SPECIAL)))
        self.hidden = {text: number for number, text in enumerate(SPECIAL)}

    def encode(self, texts: list[str], *, special: bool = False) -> list[list[int]]:
        """One id for each byte of UTF-8; the demo model has no special tokens around a prompt."""
        del special
        return [byte_ids(text) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        """The bytes of these ids as text."""
        return bytes_of(ids).decode(errors="replace")

    def decode_all(self, answers: list[list[int]], *, keep_special: bool = False) -> list[str]:
        """The same for each of these."""
        del keep_special  # its special tokens have no text
        return [self.decode(ids) for ids in answers]


def demo() -> Vocabulary:
    """The demo model's ids."""
    said = f"the demo model's, {SIZE} ids (--tokenizer or --vocab-size choose another)"
    return sized(SIZE, frozenset(range(len(SPECIAL))), NAME, said)


def learned(tokenizer: Tokenizer) -> Vocabulary:
    """The ids of a tokenizer, without its special ones."""
    size = max(max(ids, default=-1) for ids in (tokenizer.own, tokenizer.special)) + 1
    _check_size(tokenizer.name, size)  # before anything of this size is made
    plain = tokenizer.own - tokenizer.special
    usable = np.array(sorted(plain), np.int32)
    special = len(tokenizer.special)
    said = f"{tokenizer.name}'s, {len(plain):,} ids without the {special:,} special ones"
    return _vocabulary(tokenizer.name, size, usable, said, tokenizer.vocab_size)


def sized(
    size: int, special: frozenset[int], name: str = "model", description: str = ""
) -> Vocabulary:
    """A vocabulary of which only the size and the special ids are known."""
    if not 1 <= size <= MAX_VOCABULARY:
        msg = f"--vocab-size is {size}: it must be from 1 to {MAX_VOCABULARY:,}"
        raise UsageError(msg)
    if special and (min(special) < 0 or max(special) >= size):
        msg = f"--special-ids must be in the vocabulary, from 0 to {size - 1}"
        raise UsageError(msg)
    without = f" without {len(special)} special ones" if special else ""
    usable = np.setdiff1d(np.arange(size, dtype=np.int32), np.array([*special], np.int32))
    return _vocabulary(name, size, usable, description or f"{size:,} ids{without}, as given", size)


def _check_size(name: str, size: int) -> None:
    if size > MAX_VOCABULARY:
        msg = f"the vocabulary of {name} reaches id {size - 1:,}: {MAX_VOCABULARY - 1:,} is the highest allowed"
        raise UsageError(msg)


def _vocabulary(name: str, size: int, usable: Tokens, description: str, counted: int) -> Vocabulary:
    if not len(usable):
        msg = f"the vocabulary of {name} has no id that is not special"
        raise UsageError(msg)
    return Vocabulary(name=name, size=size, usable=usable, description=description, counted=counted)
