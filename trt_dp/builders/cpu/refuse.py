"""How a checkpoint or an option is refused: one sentence that says what is wrong, and what to do."""

from __future__ import annotations

from typing import NoReturn

from trt_dp.errors import UsageError


def refuse(what: str, instead: str) -> NoReturn:
    """Raise the UsageError that says both."""
    msg = f"{what}; {instead}"
    raise UsageError(msg)
