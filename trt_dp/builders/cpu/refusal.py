"""How a checkpoint or an option is refused: one sentence that says what is wrong, and what to do."""

from __future__ import annotations

from trt_dp.errors import UsageError


def refusal(what: str, instead: str) -> UsageError:
    """The error to raise."""
    return UsageError(f"{what}; {instead}")
