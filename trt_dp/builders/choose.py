"""Which builder makes an engine: the one asked for, or the best that can build here; no builder is named here."""

from __future__ import annotations

from typing import Any

from trt_dp import plugins
from trt_dp.errors import UsageError


def installed() -> dict[str, Any]:
    """All builders that load, by name; one that does not load must not stop the others."""
    names = dict.fromkeys(point.name for point in plugins.names(plugins.BUILDERS))
    loaded = {name: _load(name) for name in names}
    return {name: builder for name, builder in loaded.items() if builder is not None}


def choose(given: str | None) -> tuple[str, str]:
    """The name of the builder, and why that one."""
    if given is not None:
        plugins.check(plugins.BUILDERS, given)
        return given, "as given"
    candidates = [(getattr(one, "PREFERENCE", 0), name) for name, one in installed().items()]
    refused: list[str] = []
    for preference, name in sorted(candidates, reverse=True):
        if preference <= 0:
            continue
        why = why_not(name)
        if why is None:
            said = "; ".join([*refused, "--engine chooses another"])
            return name, said
        refused.append(f"not {name}: {why}")
    msg = f"nothing can be built here: {'; '.join(refused) or 'no builder is installed'}"
    raise UsageError(msg)


def why_not(name: str) -> str | None:
    """What keeps this builder from building here."""
    ask = getattr(plugins.find(plugins.BUILDERS, name), "why_not", None)
    why: str | None = ask() if ask else None
    return why


def _load(name: str) -> Any:
    try:
        return plugins.find(plugins.BUILDERS, name)
    except (UsageError, OSError, RuntimeError):
        return None
