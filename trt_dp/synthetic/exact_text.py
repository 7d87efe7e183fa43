"""Texts whose length in tokens is exact when a tokenizer reads them back.

Ids are drawn and decoded, the text is encoded again, and what comes out longer or shorter is repaired at its end:
tokens that meet may merge or split. Ids are drawn from whole words where a vocabulary has enough of them, because
words keep their tokens beside each other.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from trt_dp.errors import UsageError
from trt_dp.synthetic.batch import Tokens
from trt_dp.synthetic.streams import REPAIRS, draw_ids
from trt_dp.tokenizer import Tokenizer

INEXACT_SHARE = 0.01
"""More than this share of texts without their exact length is refused."""
_ROUNDS = 16
_ENOUGH = 256
_ROOM = 1 << 32  # ids for the repairs of one text
_ANCHOR = "a"


class ExactTexts:
    """Makes texts of given lengths, and counts those that have another one."""

    def __init__(self, tokenizer: Tokenizer, usable: Tokens, seed: int, *, special: bool) -> None:
        self.pool = readable(tokenizer, usable)
        self.made = self.inexact = 0
        self._tokenizer = tokenizer
        self._seed = seed
        self._special = _added(tokenizer) if special else 0

    def of(
        self, drawn: list[list[int]], lengths: list[int], places: range
    ) -> list[tuple[str, int]]:
        """A text for each list of ids, with its length as counted; `places` tell repairs apart."""
        wanted = [max(1, length - self._special) for length in lengths]
        texts = [self._text(ids[:count]) for ids, count in zip(drawn, wanted, strict=True)]
        counts = [0] * len(texts)
        left = list(range(len(texts)))
        for attempt in range(_ROUNDS):
            wrong = self._read_back(texts, counts, wanted, left)
            if attempt < _ROUNDS - 1:
                for i, ids in wrong.items():
                    texts[i] = self._repaired(ids, wanted[i], places[i] * _ROOM, attempt)
            left = list(wrong)
        counts = [count + self._special for count in counts]
        self._count(counts, lengths)
        return list(zip(texts, counts, strict=True))

    def check(self) -> None:
        """Refuse a dataset of which too many texts do not have their length."""
        if self.inexact > INEXACT_SHARE * self.made:
            msg = (
                f"{self.inexact:,} of {self.made:,} texts cannot have exactly the length asked for with the tokenizer "
                f"{self._tokenizer.name}, and at most {INEXACT_SHARE:.0%} may differ. Ask for longer prompts, or pass "
                "--format jsonl, which holds ids"
            )
            raise UsageError(msg)

    def _read_back(
        self, texts: list[str], counts: list[int], wanted: list[int], left: list[int]
    ) -> dict[int, list[int]]:
        """Count the tokens of these texts; gives the ids of those with another length than wanted."""
        found = self._tokenizer.encode([texts[i] for i in left]) if left else []
        for i, ids in zip(left, found, strict=True):
            counts[i] = len(ids)
        return {i: ids for i, ids in zip(left, found, strict=True) if len(ids) != wanted[i]}

    def _repaired(self, ids: list[int], wanted: int, place: int, attempt: int) -> str:
        """The text cut or continued; later attempts also draw its last token anew."""
        kept = ids[: wanted - (attempt >= _ROUNDS // 2)]
        skip = place + attempt * (_ROOM // _ROUNDS)
        more = draw_ids(self.pool, self._seed, skip, wanted - len(kept), REPAIRS)
        return self._text([*kept, *more.tolist()])

    def _text(self, ids: list[int]) -> str:
        """Without blanks at its ends, which chat templates remove."""
        return self._tokenizer.decode(ids).strip()

    def _count(self, counts: list[int], lengths: list[int]) -> None:
        self.made += len(counts)
        self.inexact += sum(a != b for a, b in zip(counts, lengths, strict=True))


def readable(tokenizer: Tokenizer, usable: Tokens) -> Tokens:
    """The ids that texts are drawn from: words if there are enough, else letters, else what can be seen, else all."""
    pieces = dict(_stable(tokenizer, usable.tolist()))
    letters = {token: piece for token, piece in pieces.items() if _is_word(piece)}
    words = {token: piece for token, piece in letters.items() if piece.startswith(" ")}
    choices = (
        (_ENOUGH, _single(tokenizer, words)),
        (_ENOUGH, list(words)),
        (2, list(letters)),
        (1, [token for token, piece in pieces.items() if not piece.isspace()]),
    )
    for least, found in choices:
        if len(found) >= least:
            return np.array(found, np.int32)
    return usable


def _is_word(piece: str) -> bool:
    return piece.isascii() and piece.strip().isalpha()


def _single(tokenizer: Tokenizer, words: dict[int, str]) -> list[int]:
    """The words that are one token at the beginning of a text too, where they have no blank before them."""
    read = tokenizer.encode([piece.strip() for piece in words.values()]) if words else []
    return [token for token, ids in zip(words, read, strict=True) if len(ids) == 1]


def _stable(tokenizer: Tokenizer, usable: list[int]) -> Iterator[tuple[int, str]]:
    """The ids that are read back from their own text behind a letter, each with this text."""
    before = tokenizer.encode([_ANCHOR])[0]
    anchor = tokenizer.decode(before)
    texts = [tokenizer.decode([*before, token]) for token in usable]
    for token, text, ids in zip(usable, texts, tokenizer.encode(texts), strict=True):
        piece = text.removeprefix(anchor)
        if ids == [*before, token] and piece and piece.isprintable():
            yield token, piece


def _added(tokenizer: Tokenizer) -> int:
    """How many tokens, BOS and the like, the tokenizer adds to a text."""
    bare, whole = (tokenizer.encode([_ANCHOR], special=special)[0] for special in (False, True))
    return len(whole) - len(bare)
