"""Engines, builders and launchers by name, through entry points; the built-in ones use the same way in."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, get_type_hints

import msgspec

from trt_dp.errors import UsageError
from trt_dp.system.reasons import why
from trt_dp.system.redact import redact

ENGINES = "trt_dp.engines"
BUILDERS = "trt_dp.builders"
LAUNCHERS = "trt_dp.launchers"
SERVERS = "trt_dp.servers"
READERS = "trt_dp.readers"
WRITERS = "trt_dp.writers"


def names(group: str) -> list[EntryPoint]:
    """What is installed in this group, by name; nothing is imported."""
    found: Iterable[EntryPoint] = _installed(tuple(sys.path)).select(group=group)
    return sorted(found, key=lambda point: point.name)


@lru_cache(maxsize=4)
def _installed(_path: tuple[str, ...]) -> Any:
    """Looking through all installed packages takes 5 ms, and a run asks a dozen times."""
    return entry_points()


def find(group: str, name: str) -> Any:
    """Load the plugin of this name; raises UsageError that lists the known ones."""
    point = _point(group, name)
    try:
        return point.load()
    except (ImportError, AttributeError) as error:
        msg = f"{name} cannot be loaded here: {error}"
        raise UsageError(msg) from error


def check(group: str, name: str) -> None:
    """Raises UsageError unless exactly one plugin has this name; nothing is imported."""
    _point(group, name)


def _point(group: str, name: str) -> EntryPoint:
    known = names(group)
    points = {point.value: point for point in known if point.name == name}
    what = group.rpartition(".")[2][:-1]
    if not points:
        listed = [point.name for point in known]
        msg = f"there is no {what} {name!r}{alternatives(name, listed)}"
        raise UsageError(msg)
    if len(points) > 1:
        owners = ", ".join(sorted(points))
        msg = f"several packages provide the {what} {name!r}: {owners}. Uninstall all but one"
        raise UsageError(msg)
    return next(iter(points.values()))


def alternatives(name: str, known: Iterable[str]) -> str:
    """What to say after an unknown name: the nearest known one, and all of them."""
    listed = sorted(set(known))
    near = get_close_matches(name, listed, n=1)
    guess = f" (did you mean {near[0]!r}?)" if near else ""
    return f"{guess}; known: {', '.join(listed) or 'none'}"


def options_of(plugin: Callable[..., Any]) -> dict[str, Any]:
    """The options of a plugin and their types: the keyword-only parameters of its constructor."""
    parameters = inspect.signature(plugin).parameters.values()
    hints = get_type_hints(plugin.__init__ if inspect.isclass(plugin) else plugin)
    return {
        p.name: hints.get(p.name, str)
        for p in parameters
        if p.kind is inspect.Parameter.KEYWORD_ONLY
    }


def check_options(group: str, name: str, options: dict[str, str]) -> None:
    """Raises UsageError for a `--set` key or value that this plugin does not take; loads it only if there are any."""
    if options:
        convert(find(group, name), options)


def convert(
    plugin: Callable[..., Any], options: dict[str, str], flag: str = "--set"
) -> dict[str, Any]:
    """`--set` values as the constructor's types; raises UsageError for an unknown key or a wrong value.

    A plugin whose options are not its constructor's parameters converts them itself, by `convert_options`.
    """
    own = getattr(plugin, "convert_options", None)
    if own is not None:
        return dict(own(options))
    if not options:  # to look at a constructor takes milliseconds
        return {}
    known = options_of(plugin)
    converted = {}
    for key, value in options.items():
        if key not in known:
            msg = f"there is no option {key!r} for {flag} here{alternatives(key, known)}"
            raise UsageError(msg)
        try:
            converted[key] = msgspec.convert(value, known[key], strict=False)
        except msgspec.ValidationError as error:
            msg = f"{flag} {key}={redact(key, value)}: {why(error)}"
            raise UsageError(msg) from error
    return converted
