"""Rows as prompts: chat messages, or the same as lines of `role: content`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from trt_dp.workflow.data.rows import Row
from trt_dp.workflow.prompts.few_shots import Shots
from trt_dp.workflow.prompts.templates import Prompt

Message = dict[str, str]


class Prompts(Struct, frozen=True, kw_only=True):
    """What makes messages of a row; `mapping` names the field of each variable; without one all fields are seen."""

    system: Prompt
    user: Prompt
    mapping: Mapping[str, str]
    shots: Shots
    count: int
    seed: int

    def messages(self, row: Row, key: str) -> list[Message]:
        """The messages for this row; raises RequestRefused where a template cannot be filled in."""
        values = self.values(row)
        drawn = self.shots.draw(self.count, f"{self.seed}:{key}") if self.count else []
        return [
            {"role": "system", "content": self.system.render(values)},
            *(
                message
                for shot in drawn
                for message in (
                    {"role": "user", "content": self.user.render(shot.context)},
                    {"role": "assistant", "content": shot.assistant},
                )
            ),
            {"role": "user", "content": self.user.render(values)},
        ]

    def values(self, row: Row) -> dict[str, Any]:
        """What the templates see of a row; a field that it lacks is empty."""
        if not self.mapping:
            return row
        return {variable: row.get(field, "") for variable, field in self.mapping.items()}


def as_roles(messages: list[Message]) -> str:
    """The messages as lines, and the beginning of the answer's."""
    lines = [f"{message['role']}: {message['content']}" for message in messages]
    return "\n".join([*lines, "assistant:"])


def empty_names(prompts: Prompts, rows: list[Row]) -> list[str]:
    """What templates use and rows do not have, as sentences: it is empty in these prompts."""
    found = []
    missing: Counter[str] = Counter()
    for row in rows:
        values = row if not prompts.mapping else _mapped(prompts.mapping, row)
        missing.update(name for name in _used(prompts) if name not in values)
    for name, count in sorted(missing.items()):
        files = " and ".join(
            one.file.name for one in (prompts.system, prompts.user) if name in one.uses
        )
        found.append(
            f"`{name}` in {files} is empty in {count:,} of {len(rows):,} prompts: {_why(prompts, name)}"
        )
    return found


def lost_field(prompts: Prompts, rows: list[Row]) -> str | None:
    """A variable whose field no row has, though the mapping says that rows have it."""
    known = {name for row in rows for name in row}
    lost = (name for name, field in prompts.mapping.items() if field not in known)
    return next((name for name in lost if name in _used(prompts)), None)


def _used(prompts: Prompts) -> frozenset[str]:
    return prompts.system.uses | prompts.user.uses


def _mapped(mapping: Mapping[str, str], row: Row) -> set[str]:
    return {variable for variable, field in mapping.items() if field in row}


def _why(prompts: Prompts, name: str) -> str:
    if not prompts.mapping:
        return "the rows have no such field"
    if name not in prompts.mapping:
        return "template_context_map does not name it"
    return (
        f"template_context_map says it is the field {prompts.mapping[name]!r}, which the rows lack"
    )
