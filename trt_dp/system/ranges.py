"""Numbers that a user gave, against the least that makes sense."""

from __future__ import annotations

from collections.abc import Iterable

from trt_dp.errors import UsageError


def check_least(given: Iterable[tuple[str, float, float]]) -> None:
    """Raises UsageError for the first option whose value is below its least one, or is no number."""
    for option, value, least in given:
        if not value >= least:  # so that NaN is refused too
            msg = f"{option} is {value}: it must be at least {least}"
            raise UsageError(msg)
