"""How a library's names differ from what was recorded of them. Pure: it imports no library, and reads no file.

A call is a list of parameters as text: `name`, `name=default`, `*`, `/`, `*args`, `**kwargs`; a recorded one may end in
` @1.1` (since then) or ` @<1.3` (until then).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

Version = tuple[int, int]
_OVERLOAD = re.compile(r"^(?:\d+\. )?(\w+)\((.*)\)(?: -> .*)?$")
_OPENING, _CLOSING = "([{", ")]}"


class Parameter(Struct, frozen=True):
    """One parameter: by position, by name only, or by position only; or what takes all others."""

    name: str
    required: bool
    by_name_only: bool = False
    by_position_only: bool = False
    takes_rest: bool = False


class Recorded(Struct, frozen=True):
    """What is known of one class or enum."""

    call: list[str] | None = None
    methods: dict[str, list[str]] = {}
    attributes: list[str] = []
    members: list[str] = []


class Record(Struct, frozen=True):
    """What is known of a library: the classes of its modules, and the flags of its commands."""

    about: str
    supported: tuple[str, str]
    modules: dict[str, dict[str, Recorded]]
    flags: dict[str, list[str]]


def version_of(text: str) -> Version:
    """The first two numbers of a version; (0, 0) where there are none."""
    found = re.match(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def current(recorded: Sequence[str], version: Version) -> list[str]:
    """What of it this version should have, without the marks."""
    kept = []
    for text in recorded:
        bare, _, mark = text.partition(" @")
        until = mark.startswith("<")
        bound = version_of(mark.lstrip("<"))
        if not mark or (version < bound if until else version >= bound):
            kept.append(bare)
    return kept


def parse(texts: Sequence[str]) -> list[Parameter]:
    """Parameters from their texts, types left out."""
    parameters: list[Parameter] = []
    by_name = False
    for text in texts:
        if text == "/":
            parameters = [_by_position(parameter) for parameter in parameters]
        elif text.startswith("**"):
            parameters.append(Parameter(text, required=False, takes_rest=True))
        elif text.startswith("*"):
            by_name = True
        else:
            name, default, _ = text.partition("=")
            bare = name.partition(":")[0].strip()
            parameters.append(Parameter(bare, required=not default, by_name_only=by_name))
    return parameters


def overloads(name: str, function: Callable[..., Any]) -> list[list[Parameter]]:
    """What a function takes: of a Python function by its signature, of a bound C++ one by the first lines of its text.

    One list for each overload, without `self`; none where it does not say.
    """
    texts = _documented(name, function.__doc__ or "")
    plain = inspect.unwrap(getattr(function, "__func__", function))
    if texts and not (inspect.isfunction(plain) or inspect.isclass(plain)):
        return [parse(_without_self(text)) for text in texts]
    try:
        return [_of_signature(inspect.signature(function))]
    except (ValueError, TypeError):
        return []


def differences(recorded: Sequence[Parameter], found: list[list[Parameter]]) -> list[str]:
    """What of a recorded call the nearest overload would not take; nothing where all of it fits."""
    if not found:
        return ["does not say what it takes"]
    return min((_differences(recorded, overload) for overload in found), key=len)


def _differences(recorded: Sequence[Parameter], found: Sequence[Parameter]) -> list[str]:
    there = {parameter.name: parameter for parameter in found}
    takes_rest = any(parameter.takes_rest for parameter in found)
    said = []
    for known in recorded:
        now = there.get(known.name)
        if now is None:
            said += [] if takes_rest else [f"has no parameter {known.name!r}"]
        elif now.by_position_only:
            said.append(f"takes {known.name!r} by position only")
        elif now.by_name_only and not known.by_name_only:
            said.append(f"takes {known.name!r} by name only")
        elif now.required and not known.required:
            said.append(f"now requires {known.name!r}")
    names = {known.name for known in recorded}
    new = [one.name for one in found if one.required and one.name not in names]
    return said + [f"requires {name!r}, which is new" for name in new]


def _by_position(parameter: Parameter) -> Parameter:
    return Parameter(parameter.name, parameter.required, by_position_only=True)


def _of_signature(signature: inspect.Signature) -> list[Parameter]:
    kinds = inspect.Parameter
    found = []
    for one in signature.parameters.values():
        if one.kind is kinds.VAR_POSITIONAL or one.name == "self":
            continue
        found.append(
            Parameter(
                one.name,
                required=one.default is kinds.empty and one.kind is not kinds.VAR_KEYWORD,
                by_name_only=one.kind is kinds.KEYWORD_ONLY,
                by_position_only=one.kind is kinds.POSITIONAL_ONLY,
                takes_rest=one.kind is kinds.VAR_KEYWORD,
            )
        )
    return found


def _documented(name: str, text: str) -> list[list[str]]:
    """The overloads that pybind11 and nanobind write into a docstring, as texts of their parameters."""
    matches = [_OVERLOAD.match(line.strip()) for line in text.splitlines()]
    found = [split(match[2]) for match in matches if match and match[1] == name]
    told = [texts for texts in found if texts != ["*args", "**kwargs"]]
    return told or found


def _without_self(texts: list[str]) -> list[str]:
    return [text for text in texts if text.partition(":")[0].strip() != "self"]


def split(text: str) -> list[str]:
    """Parameters apart at the commas between them, not at those inside types, defaults and quotes."""
    parts, depth, quote = [""], 0, ""
    for at, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in _OPENING or letter == "<":
            depth += 1
        elif letter in _CLOSING or (letter == ">" and text[at - 1] != "-"):
            depth -= 1
        elif letter == "," and not depth:
            parts.append("")
            continue
        parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]
