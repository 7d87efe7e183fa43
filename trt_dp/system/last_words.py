"""Why a worker died while its engine was loading, as far as its log tells: libraries print their reason and abort."""

from __future__ import annotations

import re
from pathlib import Path

_MOST_BYTES = 64 * 1024
_KINDS = (  # what C++ and TensorRT-LLM print over an error, then what anything else does
    re.compile(r"what\(\):|\[ERROR\]"),
    re.compile(
        r"error\b|out of memory|cannot open shared object|died while|has started in", re.IGNORECASE
    ),
)


def log_size(log: Path) -> int:
    """Where the next launch begins in a worker's log."""
    try:
        return log.stat().st_size
    except OSError:
        return 0


def last_words(log: Path, start: int) -> str:
    """The line that best explains the end of what was logged from `start` on; nothing where none does."""
    try:
        with log.open("rb") as file:
            file.seek(max(start, log_size(log) - _MOST_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return choose(text)


def choose(text: str) -> str:
    """The last line that reports an error."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for kind in _KINDS:
        found = [line for line in lines if kind.search(line)]
        if found:
            return found[-1].removeprefix("what():").strip()
    return ""
