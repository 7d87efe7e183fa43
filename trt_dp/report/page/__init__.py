"""report.html: one file drawn from reports alone, without scripts and without the network.

Figures are SVG made by hand: there are few kinds of them, a library would bring scripts or megabytes, and none found
is at once dark, printable, readable by a screen reader and honest about 512 workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from trt_dp.report.page import tables
from trt_dp.report.page.compare import compare
from trt_dp.report.page.distributions import distributions
from trt_dp.report.page.energy import energy
from trt_dp.report.page.headline import headline
from trt_dp.report.page.html import Child, Markup, el
from trt_dp.report.page.losses import losses
from trt_dp.report.page.numbers import Numbers
from trt_dp.report.page.timeline import timelines
from trt_dp.report.schema import Report

_FOOTER = "Drawn by trt-dp from report.json. Dotted words and numbers have their definition on hover or focus."
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page(reports: Sequence[tuple[str, Report]]) -> str:
    """The page of one run, or of several side by side."""
    runs = [(name, Numbers(report, number)) for number, (name, report) in enumerate(reports)]
    names = ", ".join(name for name, _ in runs)
    if len(runs) == 1:
        body = [headline(runs[0][1], runs[0][0]), *_run(runs[0][1])]
    else:
        body = [
            el("header", el("h1", f"{len(runs)} runs"), el("p", names, class_="what")),
            compare(runs),
        ]
    return document(names, body, _FOOTER)


def document(title: str, body: Sequence[Child], footer: str) -> str:
    """A whole page in the style of all pages."""
    inner = el("body", el("main", *body), el("footer", footer))
    return "<!doctype html>\n" + el("html", _head(title), inner, lang="en")


def _run(numbers: Numbers) -> list[Child]:
    return [
        losses(numbers),
        timelines(numbers.report),
        energy(numbers),
        tables.failures(numbers),
        tables.deaths(numbers),
        distributions(numbers),
        tables.hosts(numbers),
        tables.workers(numbers),
        tables.sittings(numbers),
        tables.ledger(numbers),
        tables.details(numbers),
    ]


def _head(names: str) -> Markup:
    style = files(__package__).joinpath("style.css").read_text("utf-8")
    return el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("title", f"{names} · trt-dp"),
        el("style", Markup(style)),
    )
