"""KEY=VALUE words, as `--set` takes them."""

from __future__ import annotations

from trt_dp.errors import UsageError


def parse(given: list[str] | None, flag: str = "--set") -> dict[str, str]:
    """The values by their keys."""
    options = {}
    for setting in given or []:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            msg = f"{flag} {setting}: give it as KEY=VALUE"
            raise UsageError(msg)
        options[key] = value
    return options
