"""Takes plain values of options without typer's conversion, which loads pydantic and makes an adapter for each option.

That costs every command 60 ms. Whatever is not plain, and whatever is wrong, is left to typer.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_args, get_origin

_PLAIN = (bool, str, int, float, Path)
_STRICT = ("min", "max", "parser", "exists", "resolve_path", "allow_dash", "path_type")


def plainly(parameters: Iterable[Any]) -> list[Any]:
    """These parameters of a command, which now convert their own values where their types are plain."""
    taken = list(parameters)
    for parameter in taken:
        kind = _plain_kind(getattr(parameter, "type_descriptor", None))
        if kind is not None and not parameter.required and "process_value" not in vars(parameter):
            parameter.process_value = functools.partial(
                _process, parameter, kind, parameter.process_value
            )
    return taken


def _plain_kind(descriptor: Any) -> Any:
    """The plain type of an option's value, or of each of its values; None where it is not plain."""
    if descriptor is None:  # a typer that converts by click, which is light
        return None
    kind = descriptor.annotation
    if get_origin(kind) is list:
        kind = get_args(kind)[0]
    told = descriptor.parameter_info
    return (
        kind if kind in _PLAIN and not any(getattr(told, name, None) for name in _STRICT) else None
    )


def _process(
    parameter: Any, kind: Any, by_typer: Callable[[Any, Any], Any], ctx: Any, value: Any
) -> Any:
    try:
        converted = _convert(parameter, kind, value)
    except (TypeError, ValueError):
        return by_typer(ctx, value)
    return parameter.callback(ctx, parameter, converted) if parameter.callback else converted


def _convert(parameter: Any, kind: Any, value: Any) -> Any:
    if parameter.multiple or parameter.nargs == -1:
        return () if value is None else [_one(kind, each) for each in value]
    return value if value is None else _one(kind, value)


def _one(kind: Any, value: Any) -> Any:
    """A word as its type; a default may have it already, and a flag is no word."""
    if isinstance(value, kind):
        return value
    if kind is bool or not isinstance(value, str):
        raise TypeError(value)
    return kind(value)
