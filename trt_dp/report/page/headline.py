"""What a reader wants to know first."""

from __future__ import annotations

from trt_dp.report.page.html import Child, Markup, el, join
from trt_dp.report.page.numbers import Format, Numbers, count, milliseconds, percent, rate, seconds
from trt_dp.report.schema import Report

_FEW = 100


def headline(numbers: Numbers, name: str) -> Markup:
    """The name of the run and its most important numbers."""
    report = numbers.report
    cards = [
        _card(numbers, "Output tokens/s", "performance.system_output_throughput_tok_s", rate),
        _card(numbers, "Wall time", "wall_seconds", seconds),
        _card(numbers, "Answered", "requests.answered", count),
        _card(numbers, "Failed", "requests.failed", count, bad=bool(report.requests.failed)),
    ]
    if report.losses:
        cards.insert(2, _card(numbers, "Of the bound", "losses.efficiency", percent))
    title = el("h1", name)
    return el("header", title, _what(report), el("div", *cards, class_="cards"), _over(numbers))


def _what(report: Report) -> Markup:
    workers = len(report.workers)
    gpus = len({device for worker in report.workers for device in worker.devices})
    where = f"{gpus:,} GPU{'s' * (gpus != 1)}" if gpus else "CPU"
    parts = [
        f"engine {report.engine}",
        f"{workers:,} worker{'s' * (workers != 1)} on {where}",
        report.dataset,
    ]
    parts += [report.began_utc] if report.began_utc else []
    return el("p", " · ".join(parts), class_="what")


def _card(numbers: Numbers, label: str, path: str, as_text: Format, *, bad: bool = False) -> Markup:
    shown = el("div", numbers.show(path, as_text), class_="value bad" if bad else "value")
    return el("div", el("div", numbers.term(label, path), class_="label"), shown, class_="card")


def _over(numbers: Numbers) -> Markup:
    """Over which seconds throughput counts, and what belongs to this session."""
    report = numbers.report
    parts: list[Child] = [
        "Throughput is over the ", numbers.show("performance.total_latency_ms", milliseconds),
        " from the first request sent to the last answer. ",
    ]  # fmt: skip
    if report.requests.answered_now != report.requests.answered:
        parts += [
            "This run was resumed: speeds and times are those of the last session, which answered ",
            numbers.show("requests.answered_now", count), " of ", numbers.show("requests.answered", count),
            " requests. ",
        ]  # fmt: skip
    if 0 < report.performance.request_latency_percentiles_ms.count < _FEW:
        parts.append(f"Percentiles of fewer than {_FEW} values mean little; they are marked. ")
    return el("p", join(parts), class_="note")
