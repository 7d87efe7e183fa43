"""Reports as tables on stdout."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from trt_dp.report.schema import Percentiles, Report
from trt_dp.system.safe_text import plain

_FEW = 100  # percentiles of fewer values say of how many
_FEW_WORKERS = 4
_WORKER_COLUMNS = (
    "worker",
    "devices",
    "requests",
    "share",
    "output tok/s",
    "load s",
    "idle s",
    "deaths",
)

Row = tuple[str, Callable[[Report], str]]


def print_reports(reports: Sequence[tuple[str, Report]], *, stderr: bool = False) -> None:
    """One report as a table, or several side by side, on stdout unless that is for answers."""
    console = Console(stderr=stderr)
    table = Table(box=None, header_style="bold", pad_edge=False, show_header=len(reports) > 1)
    table.add_column("")
    for name, _ in reports:
        table.add_column(Text(plain(name)), overflow="fold")
    for label, value in [("engine", _engine), *_fact_rows([r for _, r in reports]), *_ROWS]:
        texts = (value(report) if value else "" for _, report in reports)
        table.add_row(Text(plain(label)), *(Text(plain(text)) for text in texts))
    console.print(table, soft_wrap=False)
    for name, report in reports:
        if report.hosts:
            console.print(_hosts_table(name, report))
        console.print(_workers_table(name, report))


def _hosts_table(name: str, report: Report) -> Table:
    table = Table(title=Text(f"hosts of {plain(name)}") if name else None, box=None, pad_edge=False)
    for title in ("host", "workers", "requests", "share", "output tok/s", "load s", "deaths"):
        table.add_column(title, justify="left" if title == "host" else "right")
    for host in report.hosts:
        table.add_row(
            Text(plain(host.host)),
            str(host.workers),
            f"{host.requests:,}",
            f"{host.share:.1%}",
            f"{host.output_throughput_tok_s:,.0f}",
            f"{host.load_seconds:.2f}",
            str(host.deaths),
        )
    return table


def _workers_table(name: str, report: Report) -> Table:
    table = Table(
        title=Text(f"workers of {plain(name)}") if name else None, box=None, pad_edge=False
    )
    for title in _WORKER_COLUMNS:
        table.add_column(title, justify="right")
    for worker in report.workers:
        table.add_row(
            str(worker.worker),
            Text(plain(",".join(worker.devices) or f"{worker.host} CPU".strip())),
            f"{worker.requests:,}",
            f"{worker.share:.1%}",
            f"{worker.output_throughput_tok_s:,.0f}",
            f"{worker.load_seconds:.2f}",
            f"{worker.idle_seconds:.2f}",
            str(worker.deaths),
        )
    return table


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
        few = f" (n = {found.count})" if 0 < found.count < _FEW else ""
        return f"{found.p50:,.1f} / {found.p90:,.1f} / {found.p95:,.1f} / {found.p99:,.1f} ms{few}"

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
    parts += [f"{earlier:,} of them in earlier sessions"] if earlier else []
    parts += [f"{found.failed:,} failed"] if found.failed else []
    parts += [f"{found.redone:,} ran again"] if found.redone else []
    copies = f"{found.copies:,} copied, {found.copies_won:,} of these copies came first"
    parts += [copies] if found.copies else []
    return ", ".join(parts)


def _serving(report: Report) -> str:
    seconds = report.performance.total_latency_ms / 1e3
    return f"{seconds:.3f} s, first request sent to last answer received"


def _engine(report: Report) -> str:
    return report.engine


def _fact_rows(reports: Sequence[Report]) -> list[Row]:
    """What the engines report about themselves, below the engine's name."""
    names = dict.fromkeys(name for r in reports for w in r.workers for name in w.facts)
    return [(f"  {name.replace('_', ' ')}", _fact(name)) for name in names]


def _fact(name: str) -> Callable[[Report], str]:
    """The value if all workers that told it agree, otherwise each worker's, or what there is from least to most."""

    def show(report: Report) -> str:
        said = [worker.facts[name] for worker in report.workers if name in worker.facts]
        values = list(map(str, said))
        if len(set(values)) <= 1:
            return values[0] if values else ""
        if len(values) <= _FEW_WORKERS:
            return " / ".join(values)
        numbers = [one for one in said if not isinstance(one, str)]
        if len(numbers) == len(said):
            return f"{min(numbers)} to {max(numbers)}"
        return ", ".join(f"{value} ({count})" for value, count in Counter(values).most_common())

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
    ("throughput measured over", _serving),
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
