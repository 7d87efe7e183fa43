"""What a sweep knows of each setting, and which are the best (pure)."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from trt_dp.bench.summary import Summary
from trt_dp.bench.sweep.grid import Setting


class Outcome(Struct, frozen=True, kw_only=True):
    """A setting with its numbers, or the reason why there are none."""

    setting: Setting
    summary: Summary | None = None
    failed: str | None = None

    @property
    def speed(self) -> float:
        """Output tokens per second of all servers together."""
        return self.summary.output_tok_s if self.summary else 0.0


class Goal(Struct, frozen=True, kw_only=True):
    """What the best setting must keep: medians in milliseconds, None where any will do."""

    ttft_ms: float | None = None
    tpot_ms: float | None = None


def measured(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Those that answered everything."""
    return [
        one for one in outcomes if one.summary and one.summary.answered and not one.summary.failed
    ]


def keeps(outcome: Outcome, goal: Goal) -> bool:
    """Whether its medians are within the goal."""
    told = outcome.summary
    if told is None:
        return False
    for limit, found in ((goal.ttft_ms, told.ttft_ms), (goal.tpot_ms, told.tpot_ms)):
        if limit is not None and (found is None or found.p50 > limit):
            return False
    return True


def best(outcomes: Sequence[Outcome], goal: Goal) -> Outcome | None:
    """The fastest that keeps the goal, of equals the one with fewer devices; None if none does."""
    good = [one for one in measured(outcomes) if keeps(one, goal)]
    return max(good, key=lambda one: (one.speed, -one.setting.devices), default=None)
