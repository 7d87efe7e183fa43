"""JSON as people write it in files: a broken one is one sentence with its line, and no key may be there twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trt_dp.errors import UsageError
from trt_dp.system import safe_files
from trt_dp.workflow.checks import refuse


class _Twice(dict[str, Any]):
    """An object in which a key is given twice."""

    key = ""


def read_text(path: Path, place: str = "") -> str:
    """The text of a file; raises UsageError where it cannot be read or is not UTF-8."""
    at = f"{place}: " if place else ""
    try:
        return safe_files.read(path).decode("utf-8-sig")
    except FileNotFoundError as error:
        msg = f"{at}there is no file {path}"
        raise UsageError(msg) from error
    except OSError as error:
        msg = f"{at}{path} cannot be read: {error.strerror}"
        raise UsageError(msg) from error
    except UnicodeDecodeError as error:
        msg = f"{at}{path} is not UTF-8: convert it first (iconv)"
        raise UsageError(msg) from error


def read_document(path: Path) -> Any:
    """The value in a JSON file; raises UsageError for a syntax error and for a key given twice."""
    try:
        value = json.loads(
            read_text(path), object_pairs_hook=_object, parse_constant=_no_such_number
        )
        _refuse_twice(value, "")
    except UsageError:
        raise
    except json.JSONDecodeError as error:
        raise UsageError(_told(path, error)) from error
    except (ValueError, RecursionError) as error:
        msg = f"{path} is not valid JSON: {error}"
        raise UsageError(msg) from error
    return value


def _told(path: Path, error: json.JSONDecodeError) -> str:
    """The sentence for a syntax error; that of JSON lines, which are no workflow, says what they are for."""
    at = f"{path}, line {error.lineno}, column {error.colno}"
    if error.msg == "Extra data":
        use = "JSON lines are for trt-dp run, or for the input_data_path of a load node"
        return f"{at}: a workflow is one JSON object, which has ended before this; {use}"
    return f"{at}: {error.msg[0].lower()}{error.msg[1:]}"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    twice = _Twice(found)
    names = [name for name, _ in pairs]
    twice.key = next(name for name in names if names.count(name) > 1)
    return twice


def _no_such_number(name: str) -> Any:
    msg = f"{name} is no number in JSON"
    raise ValueError(msg)


def _refuse_twice(value: object, place: str) -> None:
    if isinstance(value, _Twice):
        refuse(f"{place}.{value.key}".lstrip("."), "the key is given twice: remove one")
    if isinstance(value, dict):
        for name, inner in value.items():
            _refuse_twice(inner, f"{place}.{name}".lstrip("."))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            _refuse_twice(inner, f"{place}[{number}]")
