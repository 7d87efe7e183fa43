"""A request and its answer as one row of a table: columns of the input first, then those of the answer."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from trt_dp.dataset import forms
from trt_dp.dataset.fields import SAMPLING, Fields
from trt_dp.dataset.writers.contract import Answered, Answers
from trt_dp.errors import UNREADABLE
from trt_dp.types import Form, Lora

_ASKED = ("max_tokens", "n", *SAMPLING)
_ANSWER = (
    "text",
    "reasoning",
    "output_ids",
    "finish_reason",
    "stop_reason",
    "input_tokens",
    "output_tokens",
    "logprobs",
    "outputs",
    "error_kind",
    "error",
)
_json = msgspec.json.Decoder().decode


def row_of(answered: Answered) -> dict[str, Any]:
    """The cells of a row, only those that hold something; an input's own column never hides an answer's."""
    cells = {"task_id": answered.index, **_asked(answered.fields)}
    for name, raw in answered.fields.more.items():
        cells[f"input_{name}" if name in _ANSWER or name in cells else name] = _decode(raw)
    return {
        name: value for name, value in {**cells, **_answer(answered)}.items() if value is not None
    }


def _decode(raw: Raw) -> Any:
    """A field as it was given; a number beyond all bounds as its text."""
    try:
        return _json(raw)
    except UNREADABLE:
        return bytes(raw).decode(errors="replace")


def names(answers: Answers) -> list[str]:
    """The columns of a table, in the order in which rows have them; those of answers come last."""
    found: dict[str, None] = {}
    for answered in answers:
        found.update(dict.fromkeys(row_of(answered)))
    return arranged(found)


def arranged(found: dict[str, Any]) -> list[str]:
    """Columns of the input as they were met, then those of answers in their own order."""
    return [name for name in found if name not in _ANSWER] + [
        name for name in _ANSWER if name in found
    ]


def _asked(fields: Fields) -> dict[str, Any]:
    """What a row asked for, under the names of JSON lines; its exact length under one that no answer has."""
    cells: dict[str, Any] = {"prompt": fields.prompt, "input_ids": fields.input_ids}
    if fields.task_id is not None:
        cells["task_id"] = fields.task_id
    for name in ("messages", "chat_template_kwargs"):
        raw: Raw = getattr(fields, name)
        cells[name] = _decode(raw) if bytes(raw) else None
    cells |= {name: getattr(fields, name, None) for name in _ASKED[:2]}
    cells |= {name: _written(getattr(fields.sampling, name)) for name in SAMPLING}
    cells["exact_tokens"] = fields.exact_tokens
    if "logprobs" in cells:
        cells["input_logprobs"] = cells.pop("logprobs")
    return cells


def _written(said: Any) -> Any:
    """A setting as a cell: one that has parts is the JSON text of a row's own field."""
    if isinstance(said, Form):
        return forms.as_written(said)
    return forms.adapter_as_written(said) if isinstance(said, Lora) else said


def _answer(answered: Answered) -> dict[str, Any]:
    line = answered.line
    if line.error:
        return {"error_kind": line.error.kind, "error": line.error.message}
    cells: dict[str, Any] = {
        "input_tokens": line.input_tokens,
        "output_tokens": line.output_tokens,
    }
    if line.outputs is not None:
        return {**cells, "outputs": [_decode(each) for each in line.outputs]}
    more = ("text", "reasoning", "output_ids", "finish_reason", "stop_reason", "logprobs")
    return {**cells, **{name: getattr(line, name) for name in more}}
