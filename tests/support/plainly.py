"""What a line of a dataset means, worked out plainly and slowly with Python's own json: a model to compare with."""

from __future__ import annotations

import json

MAX = 2**31 - 1
FIELDS = {
    *("task_id", "input_ids", "logits", "output_tokens", "output_len"),
    *("input_len", "prompt", "lora_request", "media_paths"),
}

Meaning = tuple[int | str | None, list[int] | str, int]


def meaning(line: bytes) -> Meaning | None:
    """The task_id, the ids (or the text) and the number of output tokens; None where it is invalid."""
    try:
        fields = json.loads(line.decode("utf-8"), parse_constant=_refuse)
        json.dumps(fields, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict) or not fields.keys() <= FIELDS:
        return None
    if fields.get("lora_request") is not None or fields.get("media_paths") not in (None, []):
        return None
    task_id = fields.get("task_id")
    prompt, outputs = _prompt(fields), _outputs(fields)
    if prompt is None or outputs is None:
        return None
    return (task_id, prompt, outputs) if _is_task_id(task_id) else None


def _refuse(word: str) -> None:
    raise ValueError(word)


def _is_task_id(value: object) -> bool:
    return value is None or type(value) in (int, str)


def _is_count(value: object) -> bool:
    return type(value) is int and 1 <= value <= MAX


def _prompt(fields: dict[str, object]) -> list[int] | str | None:
    given = [fields[name] for name in ("input_ids", "logits") if fields.get(name) is not None]
    if fields.get("prompt") is not None:
        text = fields["prompt"]
        alone = not given and "input_len" not in fields
        return text if alone and isinstance(text, str) and text else None
    if len(given) != 1 or not isinstance(given[0], list) or not given[0]:
        return None
    if not all(type(value) is int and value >= 0 for value in given[0]):
        return None
    if "input_len" in fields and not _is_count(fields["input_len"]):
        return None
    return given[0] if fields.get("input_len", len(given[0])) == len(given[0]) else None


def _outputs(fields: dict[str, object]) -> int | None:
    given = [fields[name] for name in ("output_tokens", "output_len") if name in fields]
    if len(given) != 1 or not _is_count(given[0]):
        return None
    return given[0]
