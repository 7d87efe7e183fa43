"""The options of a builder, from the struct that declares them: their names, types and help texts, and their values."""

from __future__ import annotations

from types import NoneType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

from trt_dp.errors import UsageError
from trt_dp.plugins import alternatives
from trt_dp.system.reasons import why

EXTRA = "extra"
"""The field that gets the words after `--`."""


class Option(Struct, frozen=True):
    """One option as a flag of the command line."""

    name: str
    kind: type  # bool, int, float or str
    help: str


class NoOptions(Struct, frozen=True):
    """The options of a builder that declares none."""


def struct_of(builder: Any) -> type[Any]:
    """The struct that declares a builder's options."""
    found: type[Any] = getattr(builder, "Options", NoOptions)
    return found


def options_of(builder: Any) -> list[Option]:
    """All options that are flags, in the order of their declaration."""
    struct = struct_of(builder)
    hints = get_type_hints(struct, include_extras=True)
    return [_option(name, hints[name]) for name in struct.__struct_fields__ if name != EXTRA]


def make(name: str, builder: Any, given: dict[str, Any]) -> Any:
    """A builder's options from the values given; raises UsageError for an unknown name or a wrong value."""
    struct = struct_of(builder)
    for key in given:
        if key not in struct.__struct_fields__:
            known = map(flag, struct.__struct_fields__)
            msg = f"the builder {name} has no option {flag(key)}{alternatives(flag(key), known)}"
            raise UsageError(msg)
    try:
        return msgspec.convert(given, struct, strict=False)
    except msgspec.ValidationError as error:
        msg = f"options of the builder {name}: {why(error)}"
        raise UsageError(msg) from error


def given_in(options: Any) -> dict[str, Any]:
    """The options that differ from their defaults, by name."""
    defaults = msgspec.to_builtins(type(options)())
    values = msgspec.to_builtins(options)
    return {name: value for name, value in values.items() if value != defaults[name]}


def flag(name: str) -> str:
    """An option as it is typed."""
    return "-- EXTRA" if name == EXTRA else "--" + name.replace("_", "-")


def _option(name: str, hint: Any) -> Option:
    text = ""
    if get_origin(hint) is Annotated:
        hint, *notes = get_args(hint)
        text = next((note.description or "" for note in notes if isinstance(note, Meta)), "")
    kinds = [kind for kind in get_args(hint) or (hint,) if kind is not NoneType]
    kind = kinds[0] if kinds[0] in (bool, int, float) and len(kinds) == 1 else str
    return Option(name, kind, text)
