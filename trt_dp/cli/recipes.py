"""Recipes: TOML files with a command's options by name."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trt_dp.errors import UNREADABLE, UsageError
from trt_dp.system import safe_files

_NOT_IN_RECIPES = {"h", "help", "recipe", "dry-run", "set"}


def read(path: Path) -> dict[str, Any]:
    """The options of a recipe, with hyphens in their names."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        found = tomllib.loads(safe_files.read(path).decode())
    except (OSError, *UNREADABLE) as error:
        why = error.strerror if isinstance(error, OSError) else error
        msg = f"cannot read the recipe {path}: {why}"
        raise UsageError(msg) from error
    if _holds_nul(list(found.values())):
        msg = f"cannot read the recipe {path}: it has a NUL character"
        raise UsageError(msg)
    return {key.replace("_", "-"): value for key, value in found.items()}


def _holds_nul(value: object) -> bool:
    """Whether a text in it has the character that no path or command line can have."""
    if isinstance(value, list):
        return any(map(_holds_nul, value))
    return isinstance(value, str) and "\0" in value


def check(
    path: Path, options: dict[str, Any], params: Sequence[Any], more: Sequence[str] = ()
) -> None:
    """Refuse what the command line could not mean: unknown options, and flags or lists for other values."""
    flags = {
        name.lstrip("-"): getattr(param, "is_flag", False)
        for param in params
        for name in param.opts
    }
    names = sorted(flags.keys() - _NOT_IN_RECIPES)
    if unknown := sorted(options.keys() - set(names)):
        listed = ", ".join([*more, *names])
        msg = f"{path}: unknown option {', '.join(unknown)}; known: {listed}"
        raise UsageError(msg)
    for name, value in options.items():
        if isinstance(value, bool) != flags[name] or isinstance(value, dict | list):
            wanted = "true or false" if flags[name] else "a number or a text"
            msg = f"{path}: {name} must be {wanted}"
            raise UsageError(msg)


def known(params: Sequence[Any]) -> dict[str, str]:
    """A command's options by their names in TOML, with the parameters they set."""
    return {name.lstrip("-"): param.name for param in params for name in param.opts}


def placed(options: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """Values as typed on the command line, so that they are checked in the same way."""
    return {
        names[name]: value if isinstance(value, bool) else str(value)
        for name, value in options.items()
        if name in names
    }
