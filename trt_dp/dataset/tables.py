"""Tables: which column is what, and a row of cells as Fields."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from trt_dp.dataset import json_row
from trt_dp.dataset.fields import SAMPLING, Fields
from trt_dp.dataset.forms import FORMS
from trt_dp.dataset.readers.contract import Bad, Options
from trt_dp.errors import DatasetError

_USUAL = {
    "prompt": ("prompt", "text", "question", "instruction", "input"),
    "messages": ("messages", "conversations", "conversation", "chat"),
    "input_ids": ("input_ids", "prompt_token_ids", "token_ids"),
    "task_id": ("task_id", "custom_id", "id", "request_id"),
}
_SETTINGS = frozenset(
    [*SAMPLING, *FORMS, "output_tokens", "output_len", "max_tokens", "n", "chat_template_kwargs"]
)
_PROMPTS = ("prompt", "messages", "input_ids")


class Columns(Struct, frozen=True):
    """Which column of a table goes by which known name; all others are kept as they are."""

    known: dict[str, str]
    more: list[str]

    def cells(self, values: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The cells of a row by their known names, without empty ones, and all others."""
        named = {name: values[column] for column, name in self.known.items()}
        return (
            {name: value for name, value in named.items() if value is not None},
            {column: values[column] for column in self.more},
        )


def columns(name: str, found: list[str], options: Options) -> Columns:
    """What the columns of this table are: as the user said, or by usual names; raises DatasetError if unclear."""
    asked = {
        "prompt": options.prompt,
        "messages": options.messages,
        "input_ids": options.ids,
        "task_id": options.id,
    }
    for column in asked.values():
        if column is not None and column not in found:
            msg = f"{name} has no column {column!r}; it has {', '.join(found)}"
            raise DatasetError(msg)
    roles = {role: column for role, column in asked.items() if column is not None}
    if not any(role in roles for role in _PROMPTS):
        role, column = _guess_prompt(name, found)
        roles[role] = column
    if "task_id" not in roles and (column := _usual("task_id", found)):
        roles["task_id"] = column
    _say(name, roles, options)
    known = {column: role for role, column in roles.items()}
    known |= {column: column for column in found if column in _SETTINGS and column not in known}
    return Columns(known, [column for column in found if column not in known])


def _guess_prompt(name: str, found: list[str]) -> tuple[str, str]:
    guesses = {role: _usual(role, found) for role in _PROMPTS}
    there = {role: column for role, column in guesses.items() if column}
    if len(there) != 1:
        some = (
            f"the prompt may be in any of {', '.join(there.values())}"
            if there
            else "no column has a usual name"
        )
        msg = (
            f"{name}: {some}. Name it with --prompt-column, --messages-column or --ids-column; "
            f"there are {', '.join(found)}"
        )
        raise DatasetError(msg)
    return next(iter(there.items()))


def _usual(role: str, found: list[str]) -> str | None:
    return next((column for column in _USUAL[role] if column in found), None)


def _say(name: str, roles: dict[str, str], options: Options) -> None:
    options.say(
        f"{name}: " + ", ".join(f"{role} from column {column!r}" for role, column in roles.items())
    )


def fields(cells: dict[str, Any], more: dict[str, Any]) -> Fields:
    """A row as Fields; raises BadLine with the reason."""
    return json_row.from_cells(cells, more)


def bad(reason: str, task_id: int | str | None, more: dict[str, Any]) -> Bad:
    """An invalid row, with the cells that are only passed on."""
    return Bad(reason, task_id, json_row.others_of(more))
