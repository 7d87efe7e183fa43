"""What a person sees of a measurement: progress on stderr, then a table and what its numbers mean on stdout."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text
from typing_extensions import Self

from trt_dp.bench.drive import Standing
from trt_dp.bench.peers.comparison import Pair
from trt_dp.bench.result import Measurement
from trt_dp.bench.spread import Spread
from trt_dp.bench.summary import DEFINITIONS, Summary
from trt_dp.display import progress
from trt_dp.display.lines import of_total
from trt_dp.system.safe_text import plain

_SPREADS = {
    "TTFT, ms": "ttft_ms",
    "ITL, ms": "itl_ms",
    "TPOT, ms": "tpot_ms",
    "latency, ms": "latency_ms",
    "tok/s of a request": "request_tok_s",
    "sent late, ms": "late_ms",
}
_COLUMNS = ("mean", "p50", "p90", "p99", "minimum", "maximum")
_COUNTS = ("input_tokens", "output_tokens", "shorter", "bundled")
_RATES = (
    *("duration_seconds", "requests_per_second", "input_tok_s", "output_tok_s", "total_tok_s"),
    "mean_in_flight",
)
_SHOWN = ("ttft_ms", "itl_ms", "tpot_ms", "latency_ms", "output_tok_s", "duration_seconds")
_FEW = 100
_FAILURES = 5


class Live:
    """Progress of one measurement."""

    def __init__(self) -> None:
        self._shown = progress.on_stderr()

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._shown.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop drawing."""
        self._shown.__exit__(*error)

    def say(self, text: str) -> None:
        """Print a line."""
        self._shown.say(text)

    def show(self, phase: str, standing: Standing) -> None:
        """How far it is."""
        self._shown.update(phase, standing.done, standing.total, _facts(standing))


def _facts(standing: Standing) -> str:
    speed = standing.output_tokens / standing.seconds if standing.seconds else 0.0
    told = of_total(standing.done, standing.total, "requests")
    failed = f", {standing.failed:,} failed" if standing.failed else ""
    return f"{told}{failed}, {standing.in_flight} in flight, {speed:,.0f} output tok/s"


def print_measurement(found: Measurement) -> None:
    """The table of a measurement, its definitions, and what failed."""
    console = Console()
    summary = found.summary
    _say(
        console,
        f"{summary.answered:,} of {summary.requests:,} requests answered, {summary.failed:,} failed",
    )
    _say(console, _asked(found))
    console.print(_numbers(summary))
    console.print(_spreads(summary))
    if len(summary.endpoints) > 1:
        console.print(_endpoints(summary))
    _notes(console, summary)
    _definitions(console)


def print_pairs(tool: str, pairs: Sequence[Pair]) -> None:
    """Two tools side by side."""
    table = _table("", "trt-dp", tool, "allowed", "")
    for pair in pairs:
        agrees = "agree" if pair.agrees else "DIFFER"
        table.add_row(pair.name, _value(pair.ours), _value(pair.theirs), pair.within, agrees)
    console = Console()
    _say(
        console,
        f"\nthe same servers, one tool after the other (times are medians); {tool} calls tpot_ms ITL",
    )
    console.print(table)


def _asked(found: Measurement) -> str:
    load = found.load
    if load.request_rate is None:
        pace = f"{load.concurrency} in flight (batch size {load.batch_size} x dp {load.dp})"
    else:
        pace = f"{load.request_rate:g} requests/s (Poisson), however many are in flight"
    where = f"{len(found.served.urls)} endpoint{'s' * (len(found.served.urls) > 1)}"
    return f"{found.served.model}, {found.served.api}, {where}; {pace}; {load.warmup:,} for warm-up before"


def _numbers(summary: Summary) -> Table:
    table = _table("", "")
    for name in (*_RATES, *_COUNTS):
        value = getattr(summary, name)
        if value or name not in ("shorter", "bundled"):
            table.add_row(name, _value(value))
    return table


def _spreads(summary: Summary) -> Table:
    table = _table("", *_COLUMNS)
    for title, name in _SPREADS.items():
        found: Spread | None = getattr(summary, name)
        if found is not None:
            table.add_row(title, *(_value(getattr(found, column)) for column in _COLUMNS))
    return table


def _endpoints(summary: Summary) -> Table:
    table = _table("endpoint", "answered", "failed", "output tokens", "TTFT p50", "TPOT p50")
    for share in summary.endpoints:
        times = (found.p50 if found else None for found in (share.ttft_ms, share.tpot_ms))
        cells = (share.answered, share.failed, share.output_tokens, *times)
        table.add_row(plain(share.url), *(_value(cell) for cell in cells))
    return table


def _notes(console: Console, summary: Summary) -> None:
    for group in summary.failures[:_FAILURES]:
        _say(console, f"failed: {group.requests:,} x {group.kind}: {group.message}")
    if len(summary.failures) > _FAILURES:
        _say(console, f"failed: {len(summary.failures) - _FAILURES:,} more reasons, see bench.json")
    if summary.shorter:
        _say(
            console,
            f"{summary.shorter:,} answers are shorter than asked for: {DEFINITIONS['shorter']}",
        )
    if summary.bundled:
        _say(console, f"{summary.bundled:,} answers came in one event: {DEFINITIONS['bundled']}")
    if 0 < summary.answered < _FEW:
        _say(console, f"percentiles of fewer than {_FEW} requests mean little")


def _definitions(console: Console) -> None:
    _say(console, "")
    for name in _SHOWN:
        _say(console, f"{name}: {DEFINITIONS[name]}")


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, show_header=any(columns))
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", overflow="fold")
    return table


def _value(value: float | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if value >= 1000 else f"{value:,.2f}"


def _say(console: Console, text: str) -> None:
    console.print(Text(plain(text)), soft_wrap=True)
