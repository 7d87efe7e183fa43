"""What a user sees of a run: a bar on a terminal, a line now and then elsewhere, and the report as tables."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text
from typing_extensions import Self

from trt_dp.coordinator.job import Snapshot
from trt_dp.report.summary import Percentiles, Report
from trt_dp.system.safe_text import plain

_REDRAW_SECONDS = 0.2
_LINE_SECONDS = 10.0

Row = tuple[str, Callable[[Report], str]]


class Bar:
    """One bar on a terminal's stderr for the whole run."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[facts]}"),
            TimeRemainingColumn(),
            console=console,
            auto_refresh=False,
        )
        self._task = self._progress.add_task("checking", total=None, facts="")
        self._drawn = 0.0
        self._speed = _Speed()

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the bar as it stands."""
        self._progress.stop()

    def say(self, text: str) -> None:
        """Print above the bar."""
        self._progress.console.print(plain(text), markup=False, highlight=False, soft_wrap=True)

    def indexing(self, done: int, total: int) -> None:
        """The dataset's bytes."""
        if not self._due():
            return
        facts = f"{done / 1e6:,.0f} of {total / 1e6:,.0f} MB"
        self._draw(description="checking", completed=done, total=total, facts=facts)

    def show(self, snapshot: Snapshot) -> None:
        """The run's requests."""
        speed = self._speed(snapshot)
        if self._due() or snapshot.completed == snapshot.requests:
            done = f"{snapshot.completed:,}/{snapshot.requests:,}"
            facts = f"{done}, {_facts(snapshot, speed)}"
            self._draw(
                description="running",
                completed=snapshot.completed,
                total=snapshot.requests,
                facts=facts,
            )

    def _due(self) -> bool:
        return time.monotonic() - self._drawn >= _REDRAW_SECONDS

    def _draw(self, **what: Any) -> None:
        self._drawn = time.monotonic()
        self._progress.update(self._task, **what)
        self._progress.refresh()


class Lines:
    """Plain lines on stderr for logs: what happens, and every ten seconds where the run is."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said = time.monotonic()
        self._speed = _Speed()

    def __enter__(self) -> Self:
        """Nothing to begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to end."""

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(plain(text), markup=False, highlight=False, soft_wrap=True)

    def indexing(self, done: int, total: int) -> None:
        """The dataset's bytes, now and then."""
        if self._due():
            self.say(f"checking: {done / 1e6:,.0f} of {total / 1e6:,.0f} MB")

    def show(self, snapshot: Snapshot) -> None:
        """The run's requests, now and then."""
        speed = self._speed(snapshot)
        if self._due():
            done = f"{snapshot.completed:,} of {snapshot.requests:,} requests"
            self.say(f"running: {done}, {_facts(snapshot, speed)}")

    def _due(self) -> bool:
        if time.monotonic() - self._said < _LINE_SECONDS:
            return False
        self._said = time.monotonic()
        return True


class _Speed:
    """Output tokens per second since a worker was ready."""

    def __init__(self) -> None:
        self._since = math.inf

    def __call__(self, snapshot: Snapshot) -> float:
        if snapshot.ready:
            self._since = min(self._since, time.monotonic())
        return snapshot.output_tokens / max(_REDRAW_SECONDS, time.monotonic() - self._since)


def on_stderr() -> Bar | Lines:
    """A bar where someone watches, lines where nobody does."""
    console = Console(stderr=True)
    return Bar(console) if console.is_terminal else Lines(console)


def print_reports(reports: Sequence[tuple[str, Report]]) -> None:
    """One report as a table, or several side by side, on stdout."""
    console = Console()
    table = Table(box=None, header_style="bold", pad_edge=False, show_header=len(reports) > 1)
    table.add_column("")
    for name, _ in reports:
        table.add_column(Text(plain(name)), overflow="fold")
    for label, value in [("engine", _engine), *_fact_rows([r for _, r in reports]), *_ROWS]:
        told = (value(report) if value else "" for _, report in reports)
        table.add_row(Text(plain(label)), *(Text(plain(text)) for text in told))
    console.print(table, soft_wrap=False)
    for name, report in reports:
        console.print(_workers_table(name, report))


def _workers_table(name: str, report: Report) -> Table:
    titles = (
        "worker",
        "devices",
        "requests",
        "share",
        "output tok/s",
        "load s",
        "idle s",
        "deaths",
    )
    table = Table(
        title=Text(f"workers of {plain(name)}") if name else None, box=None, pad_edge=False
    )
    for title in titles:
        table.add_column(title, justify="right")
    for worker in report.workers:
        table.add_row(
            str(worker.worker),
            Text(plain(",".join(worker.devices)) or "CPU"),
            f"{worker.requests:,}",
            f"{worker.share:.1%}",
            f"{worker.output_throughput_tok_s:,.0f}",
            f"{worker.load_seconds:.2f}",
            f"{worker.idle_seconds:.2f}",
            str(worker.deaths),
        )
    return table


def _facts(snapshot: Snapshot, speed: float) -> str:
    parts = [f"{speed:,.0f} tok/s", f"{snapshot.ready}/{snapshot.workers} workers"]
    if snapshot.deaths:
        parts.append(f"{snapshot.deaths} deaths")
    if snapshot.failed:
        parts.append(f"{snapshot.failed:,} failed")
    return ", ".join(parts)


def _activity(name: str) -> Callable[[Report], str]:
    def show(report: Report) -> str:
        activity = getattr(report, name)
        return (
            f"{activity.requests:,} in {activity.span_seconds:.3f} s "
            f"({activity.requests_per_second:,.0f} req/s), busy {activity.busy_seconds:.3f} s"
        )

    return show


def _phase(name: str) -> Callable[[Report], str]:
    return lambda report: f"{report.phases_seconds.get(name, math.nan):.3f} s"


def _milliseconds(name: str) -> Callable[[Report], str]:
    def show(report: Report) -> str:
        found: Percentiles = getattr(report.performance, name)
        return f"{found.p50:,.1f} / {found.p90:,.1f} / {found.p95:,.1f} / {found.p99:,.1f} ms"

    return show


def _speed(name: str) -> Callable[[Report], str]:
    def show(report: Report) -> str:
        value = getattr(report.performance, name)
        return "no GPU" if value is None else f"{value:,.0f} tok/s"

    return show


def _requests(report: Report) -> str:
    found = report.requests
    earlier = found.answered - found.answered_now
    parts = [f"{found.answered:,} answered"]
    parts += [f"{earlier:,} of them earlier"] if earlier else []
    parts += [f"{found.failed:,} failed"] if found.failed else []
    parts += [f"{found.redone:,} redone"] if found.redone else []
    return ", ".join(parts)


def _engine(report: Report) -> str:
    return report.engine


def _fact_rows(reports: Sequence[Report]) -> list[Row]:
    """What the engines said of themselves, under the engine's name."""
    names = dict.fromkeys(name for r in reports for w in r.workers for name in w.facts)
    return [(f"  {name.replace('_', ' ')}", _fact(name)) for name in names]


def _fact(name: str) -> Callable[[Report], str]:
    """What all workers say alike, or each of them, in their order."""

    def show(report: Report) -> str:
        values = [str(worker.facts.get(name, "?")) for worker in report.workers]
        return values[0] if len(set(values)) == 1 else " / ".join(values)

    return show


_ROWS: list[tuple[str, Callable[[Report], str] | None]] = [
    ("requests", _requests),
    ("Sending requests", _activity("sending")),
    ("Receiving results", _activity("receiving")),
    ("Sorting results", _activity("sorting")),
    ("", None),
    ("wall time", lambda report: f"{report.wall_seconds:.3f} s"),
    ("  index", _phase("index")),
    ("  start", _phase("start")),
    ("  load", _phase("load")),
    ("  feed", _phase("feed")),
    ("  drain", _phase("drain")),
    ("  sort", _phase("sort")),
    ("  stop", _phase("stop")),
    ("", None),
    (
        "request throughput",
        lambda report: f"{report.performance.request_throughput_req_s:,.1f} req/s",
    ),
    ("input throughput", _speed("system_input_throughput_tok_s")),
    ("output throughput", _speed("system_output_throughput_tok_s")),
    ("total throughput", _speed("system_total_throughput_tok_s")),
    ("output per worker", _speed("output_throughput_per_worker_tok_s")),
    ("output per GPU", _speed("output_throughput_per_gpu_tok_s")),
    ("latency p50/p90/p95/p99", _milliseconds("request_latency_percentiles_ms")),
    ("queue wait p50/p90/p95/p99", _milliseconds("queue_wait_percentiles_ms")),
    ("turnaround p50/p90/p95/p99", _milliseconds("turnaround_percentiles_ms")),
    ("coordinator", lambda report: f"{report.coordinator.cpu_us_per_request:,.1f} us CPU/request"),
    ("", None),
]
