"""Failures by reason: what differs only in its numbers is one group."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import msgspec
from msgspec import Struct

from trt_dp.report.sections import FailureGroup
from trt_dp.system.safe_files import look_into
from trt_dp.types import Failure

_NUMBER = re.compile(r"\d[\d,._]*")
_MOST_GROUPS, _EXAMPLES, _LONGEST = 20, 3, 300


class _Failed(Struct):
    """A line of failures.jsonl."""

    task_id: int | str | None
    error: Failure


class _Group:
    def __init__(self, message: str) -> None:
        self.message = message
        self.requests = 0
        self.examples: list[str] = []


def group_failures(path: Path) -> list[FailureGroup]:
    """The failures in a file by reason, the most frequent first; the rarest become one group."""
    groups = _grouped(path)
    ordered = sorted(groups.items(), key=lambda item: -item[1].requests)
    shown = [_of(kind, group) for (kind, _), group in ordered[:_MOST_GROUPS]]
    rest = [group for _, group in ordered[_MOST_GROUPS:]]
    if rest:
        examples = [example for group in rest for example in group.examples]
        shown.append(
            FailureGroup(
                kind="other",
                message=f"{len(rest):,} rarer reasons",
                requests=sum(group.requests for group in rest),
                examples=examples[:_EXAMPLES],
            )
        )
    return shown


def _grouped(path: Path) -> dict[tuple[str, str], _Group]:
    groups: dict[tuple[str, str], _Group] = {}
    decode = msgspec.json.Decoder(_Failed).decode
    for line in _lines(path):
        failed = decode(line)
        message = failed.error.message[:_LONGEST]
        key = (failed.error.kind, _NUMBER.sub("#", message))
        group = groups.get(key) or groups.setdefault(key, _Group(message))
        group.requests += 1
        if len(group.examples) < _EXAMPLES:
            group.examples.append(f"{str(failed.task_id)[:_LONGEST]}: {message}")
    return groups


def _lines(path: Path) -> Iterable[bytes]:
    if not path.exists():
        return
    with look_into(path) as file:
        yield from file


def _of(kind: str, group: _Group) -> FailureGroup:
    return FailureGroup(
        kind=kind, message=group.message, requests=group.requests, examples=group.examples
    )
