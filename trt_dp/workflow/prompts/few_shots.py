"""Examples in a few_shot.jsonl file, drawn for each row from a seed and the row's key."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from msgspec import Struct

from trt_dp.errors import UNREADABLE
from trt_dp.workflow.json_text import read_text


class Keys(Struct, frozen=True):
    """The names of an example's parts."""

    context: str = "context"
    assistant: str = "assistant"


class Shot(Struct, frozen=True):
    """An example: what the user's template is filled with, and the answer."""

    context: dict[str, Any]
    assistant: str


class Shots(Struct, frozen=True):
    """The examples that can be used, and why others cannot."""

    shots: list[Shot] = []
    skipped: list[str] = []

    def draw(self, count: int, seed: str) -> list[Shot]:
        """So many of them, or all; the same for the same seed, whatever else is asked."""
        return random.Random(seed).sample(self.shots, min(count, len(self.shots)))  # noqa: S311 - no secret


def load(file: Path, keys: Keys, place: str) -> Shots:
    """The examples of a file; raises UsageError where it cannot be read."""
    shots: list[Shot] = []
    skipped: list[str] = []
    for number, line in enumerate(read_text(file, place).split("\n"), start=1):
        if line.strip():
            found = _shot(line, keys)
            if isinstance(found, Shot):
                shots.append(found)
            else:
                skipped.append(f"line {number}: {found}")
    return Shots(shots, skipped)


def _shot(line: str, keys: Keys) -> Shot | str:
    """The example in a line, or why it cannot be used."""
    try:
        given = json.loads(line)
    except UNREADABLE as error:
        return f"it is not valid JSON ({error})"
    if not isinstance(given, dict) or not isinstance(given.get(keys.context), dict):
        return f"it has no object {keys.context!r}"
    answer = given.get(keys.assistant)
    if answer is None:
        return f"it has no {keys.assistant!r}"
    text = answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
    return Shot(given[keys.context], text)
