"""Where an answer ends because of a stop string. The text decides, never how it was cut into tokens.

The answer ends before the stop string that is complete first, the longest of several that are complete at the
same place. Its ids are as many as can be kept without a part of it: a token that holds the end of the answer
and the beginning of the stop string is left out, though the text before it stays in the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from trt_dp.tokenizer import Tokenizer

_UNFINISHED = "\ufffd"


class Stop(NamedTuple):
    """The stop string that ended an answer: its text before, and how many ids are in that."""

    string: str
    text: str
    ids: int


def find_stop(
    tokenizer: Tokenizer, ids: Sequence[int], strings: Sequence[str], min_tokens: int = 0
) -> Stop | None:
    """The end of this answer, if it has one of the strings; one complete within `min_tokens` does not count."""
    text = tokenizer.decode(ids)
    after = len(tokenizer.decode(ids[:min_tokens]).rstrip(_UNFINISHED)) if min_tokens else 0
    found = _first(text, strings, after)
    if found is None:
        return None
    begin, string = found
    return Stop(string, text[:begin], _ids_within(tokenizer, ids, begin))


class Watch:
    """An answer as it grows; sees soon that a stop string is in it, so that no more is generated."""

    def __init__(self, tokenizer: Tokenizer, strings: Sequence[str], min_tokens: int = 0) -> None:
        self._tokenizer, self._strings, self._least = tokenizer, strings, min_tokens
        self._keep = max(map(len, strings)) - 1
        self._ids: list[int] = []
        self._answer: list[int] = []
        self._text, self._tail = "", ""
        self._begin = 0

    def grows(self, ids: Sequence[int]) -> bool:
        """Whether the answer with these ids has a stop string that ends it."""
        return any(self._grows(token) and self._ends() for token in ids)

    def _ends(self) -> bool:
        """A string was seen near the end; it may have been complete within `min_tokens`."""
        if len(self._answer) <= self._least:
            return False
        return find_stop(self._tokenizer, self._answer, self._strings, self._least) is not None

    def _grows(self, token: int) -> bool:
        """Decode from the last place where text was whole: the ids before it give their text its spaces."""
        self._ids.append(token)
        self._answer.append(token)
        text = self._tokenizer.decode(self._ids)
        if text.endswith(_UNFINISHED) or len(text) <= len(self._text):
            return False
        new = text[len(self._text) :]
        del self._ids[: self._begin]
        self._begin = len(self._ids)
        self._text = self._tokenizer.decode(self._ids)
        searched, self._tail = (
            self._tail + new,
            (self._tail + new)[-self._keep :] if self._keep else "",
        )
        return any(one in searched for one in self._strings)


def _first(text: str, strings: Sequence[str], after: int) -> tuple[int, str] | None:
    """Where the first string to be complete begins; it is complete after so many characters."""
    found = []
    for string in strings:
        begin = text.find(string, max(0, after - len(string) + 1))
        if begin >= 0:
            found.append((begin + len(string), begin, string))
    return min(found)[1:] if found else None


def _ids_within(tokenizer: Tokenizer, ids: Sequence[int], length: int) -> int:
    """How many ids from the front make a text of at most this length."""
    low, high = 0, len(ids)
    while low < high:
        middle = (low + high + 1) // 2
        if len(tokenizer.decode(ids[:middle])) <= length:
            low = middle
        else:
            high = middle - 1
    return low
