"""Makes foreign text safe to print: a dataset, an engine or a log must not control the user's terminal."""

from __future__ import annotations

import re

_LONGEST = 4000
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def plain(text: object) -> str:
    """The text with every character escaped that controls a terminal or cannot be encoded."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode-escape").decode(), str(text))


def brief(text: str) -> str:
    """The text, cut if it is very long."""
    if len(text) <= _LONGEST:
        return text
    return f"{text[:_LONGEST]} ... ({len(text) - _LONGEST:,} characters more)"
