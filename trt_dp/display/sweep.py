"""What a person sees of a sweep: progress on stderr, then a table and the best setting on stdout."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from trt_dp.bench.spread import Spread
from trt_dp.bench.sweep.outcome import Outcome
from trt_dp.system.safe_text import plain

_TIMES = ("ttft_ms", "tpot_ms", "latency_ms")
_COLUMNS = (
    "",
    "devices",
    "output tok/s",
    "per device",
    "TTFT p50",
    "TPOT p50",
    "latency p50",
    "failed",
)


def print_outcomes(outcomes: Sequence[Outcome], chosen: Outcome | None, command: str) -> None:
    """Every setting, and the command lines of the best."""
    console = Console()
    table = Table(box=None, header_style="bold", pad_edge=False)
    for place, column in enumerate(_COLUMNS):
        table.add_column(column, justify="right" if place else "left", no_wrap=not place)
    for one in outcomes:
        table.add_row(*map(plain, _row(one)))
    console.print(table)
    if chosen is None:
        console.print("no setting answered everything and keeps the limits")
        return
    console.print(
        Text(f"\nbest: {chosen.setting.name}, {chosen.speed:,.0f} output tok/s. Start it with:")
    )
    console.print(Text(plain(command)), soft_wrap=True)


def _row(outcome: Outcome) -> list[str]:
    setting, told = outcome.setting, outcome.summary
    first = [setting.name, str(setting.devices)]
    if told is None:
        return [*first, "failed", "", "", "", "", ""]
    times = [_median(getattr(told, name)) for name in _TIMES]
    return [
        *first,
        f"{outcome.speed:,.0f}",
        f"{outcome.speed / setting.devices:,.0f}",
        *times,
        str(told.failed),
    ]


def _median(found: Spread | None) -> str:
    return f"{found.p50:,.1f}" if found else "-"
