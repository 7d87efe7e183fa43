"""Two tools that measured the same servers: their numbers side by side, and whether they agree (pure)."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from trt_dp.bench.spread import Spread
from trt_dp.bench.summary import Summary

_ITL_SHARE = 0.10
_TTFT_MS, _TTFT_SHARE = 10.0, 0.15
_THROUGHPUT_SHARE = 0.15


class Numbers(Struct, frozen=True, kw_only=True):
    """What both tools measure by the same definition; times are medians."""

    answered: int
    input_tokens: int
    output_tokens: int
    ttft_ms: float | None
    tpot_ms: float | None
    latency_ms: float | None
    output_tok_s: float


class Pair(Struct, frozen=True, kw_only=True):
    """One number of both; `within` says what difference is allowed, `agrees` whether it is kept."""

    name: str
    ours: float | None
    theirs: float | None
    within: str
    agrees: bool


def of_summary(summary: Summary) -> Numbers:
    """Ours."""
    return Numbers(
        answered=summary.answered,
        input_tokens=summary.input_tokens,
        output_tokens=summary.output_tokens,
        ttft_ms=_median(summary.ttft_ms),
        tpot_ms=_median(summary.tpot_ms),
        latency_ms=_median(summary.latency_ms),
        output_tok_s=summary.output_tok_s,
    )


def pairs(ours: Numbers, theirs: Numbers) -> Sequence[Pair]:
    """Every number of both tools."""
    return [
        *(_exact(name, ours, theirs) for name in ("answered", "input_tokens", "output_tokens")),
        _near("ttft_ms", ours, theirs, (_TTFT_MS, _TTFT_SHARE)),
        _near("tpot_ms", ours, theirs, (0.0, _ITL_SHARE)),
        _near("latency_ms", ours, theirs, (_TTFT_MS, _TTFT_SHARE)),
        _near("output_tok_s", ours, theirs, (0.0, _THROUGHPUT_SHARE)),
    ]


def _median(found: Spread | None) -> float | None:
    return None if found is None else found.p50


def _exact(name: str, ours: Numbers, theirs: Numbers) -> Pair:
    mine, other = getattr(ours, name), getattr(theirs, name)
    return Pair(name=name, ours=mine, theirs=other, within="equal", agrees=mine == other)


def _near(name: str, ours: Numbers, theirs: Numbers, allowed: tuple[float, float]) -> Pair:
    """Ours may differ from theirs by so much, and so large a share of theirs."""
    absolute, share = allowed
    mine, other = getattr(ours, name), getattr(theirs, name)
    within = f"{share:.0%}" if not absolute else f"{absolute:g} ms + {share:.0%}"
    both = mine is not None and other is not None
    agrees = abs(mine - other) <= absolute + share * other if both else mine is other
    return Pair(name=name, ours=mine, theirs=other, within=within, agrees=agrees)
