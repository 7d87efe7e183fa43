"""Rows as lines of a file of requests: each with its key, its prompt and its own seed."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from trt_dp.errors import RequestRefused
from trt_dp.workflow.contract import Failed
from trt_dp.workflow.data.rows import Row, key_of
from trt_dp.workflow.model.job import Asking
from trt_dp.workflow.prompts.messages import Message, Prompts, as_roles

_SEED_BYTES = 7  # so that it fits in a signed number of 64 bits


def requests_of(
    rows: list[Row], key: str, prompts: Prompts, asking: Asking
) -> tuple[dict[str, bytes], list[Failed]]:
    """The lines by their keys, and the rows whose templates cannot be filled in."""
    lines: dict[str, bytes] = {}
    failed: list[Failed] = []
    for row in rows:
        name = key_of(row, key)
        try:
            lines[name] = line_of(name, prompts.messages(row, name), asking, prompts.seed)
        except RequestRefused as reason:
            failed.append(Failed(key=name, kind="template_error", message=str(reason)))
    return lines, failed


def line_of(name: str, messages: list[Message], asking: Asking, seed: int) -> bytes:
    """The line of one request."""
    made = asking.generation
    line: dict[str, Any] = {"task_id": name}
    line |= {"prompt": as_roles(messages)} if asking.form == "roles" else {"messages": messages}
    if made.defaults.sampling.temperature:
        line["seed"] = _seed(name, seed) if made.seed is None else made.seed
    return msgspec.json.encode(line | made.fields) + b"\n"


def _seed(name: str, seed: int) -> int:
    """The same for the same row, whatever else is asked with it."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return int.from_bytes(digest[:_SEED_BYTES], "big")
