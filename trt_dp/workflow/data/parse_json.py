"""JSON in an answer: as it is, in a fenced block, or nearly right. The only file that repairs it."""

from __future__ import annotations

import importlib.util
import json
import re
from typing import Any

from trt_dp.errors import UNREADABLE, UsageError
from trt_dp.system.extras import pip_install

_FENCE = re.compile(r"```(?:json|JSON)?[ \t]*\r?\n(.*?)```", re.DOTALL)
_AFTER_THINKING = re.compile(r".*</think(?:ing)?>", re.DOTALL)
_DECODER = json.JSONDecoder()


def check_installed(place: str) -> None:
    """Raises UsageError where the library that repairs JSON is missing."""
    if importlib.util.find_spec("json_repair") is None:
        msg = f"{place}: it needs json-repair: {pip_install('workflow')}"
        raise UsageError(msg)


def parse(answer: str) -> dict[str, Any] | list[Any] | None:
    """The object or list in an answer; None where there is none, or only prose."""
    said = _AFTER_THINKING.sub("", answer).strip()
    fenced = _FENCE.findall(said)
    for text in (*fenced, said):
        if (found := _exact(text)) is not None:
            return found
    for text in (*fenced, said):
        if text.lstrip().startswith(("{", "[")) and (found := _repaired(text)) is not None:
            return found
    return _inside(said)


def _exact(text: str) -> dict[str, Any] | list[Any] | None:
    try:
        return _kept(json.loads(text))
    except UNREADABLE:
        return None


def _repaired(text: str) -> dict[str, Any] | list[Any] | None:
    import json_repair

    try:
        return _kept(json_repair.repair_json(text, return_objects=True)) or None
    except UNREADABLE:
        return None


def _inside(text: str) -> dict[str, Any] | list[Any] | None:
    """The first object with something in it that is written correctly within prose."""
    begins = (found.start() for found in re.finditer(r"\{", text))
    return next((value for begin in begins if (value := _beginning(text, begin))), None)


def _beginning(text: str, begin: int) -> dict[str, Any] | list[Any] | None:
    try:
        return _kept(_DECODER.raw_decode(text, begin)[0])
    except UNREADABLE:
        return None


def _kept(value: Any) -> dict[str, Any] | list[Any] | None:
    """Objects and lists that can be written again; a bare number or text stays text."""
    if not isinstance(value, dict | list):
        return None
    json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    return value
