"""Recipes: TOML files that hold a command's options by their names."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trt_dp.errors import UNREADABLE, UsageError
from trt_dp.system import safe_files


def read(path: Path) -> dict[str, Any]:
    """The options of a recipe, with hyphens in their names."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        found = tomllib.loads(safe_files.read(path).decode())
    except (OSError, *UNREADABLE) as error:
        msg = f"cannot read the recipe {path}: {error}"
        raise UsageError(msg) from error
    if _holds_nul(list(found.values())):
        msg = f"cannot read the recipe {path}: it has a NUL character in it"
        raise UsageError(msg)
    return {key.replace("_", "-"): value for key, value in found.items()}


def _holds_nul(value: object) -> bool:
    """Whether there is a character in it that no path and no command line can have."""
    if isinstance(value, list):
        return any(map(_holds_nul, value))
    return isinstance(value, str) and "\0" in value


def known(params: Sequence[Any]) -> dict[str, str]:
    """A command's options by their names as in TOML, with the parameters they stand for."""
    return {name.lstrip("-"): param.name for param in params for name in param.opts}


def placed(options: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """Values as if typed on the command line, so that they are checked alike."""
    return {
        names[name]: value if isinstance(value, bool) else str(value)
        for name, value in options.items()
        if name in names
    }
