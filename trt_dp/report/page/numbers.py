"""Numbers as the page shows them: each is looked up in the report by its path, and carries that path with it."""

from __future__ import annotations

from collections.abc import Callable

from trt_dp.report.page.html import Markup, el, term
from trt_dp.report.schema import Report

Format = Callable[[float], str]


def count(value: float) -> str:
    """A whole number."""
    return f"{value:,.0f}"


def rate(value: float) -> str:
    """Three digits of something per second, and thousands apart."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def percent(value: float) -> str:
    """A share of a whole."""
    return f"{value:.1%}"


def seconds(value: float) -> str:
    """A length of time in the unit that a person would choose."""
    if abs(value) >= 5400:
        return f"{value / 3600:,.2f} h"
    if abs(value) >= 120:
        return f"{value / 60:,.1f} min"
    if abs(value) >= 1 or value == 0:
        return f"{value:,.2f} s"
    return milliseconds(value * 1e3)


def milliseconds(value: float) -> str:
    """Milliseconds, or seconds where there are many."""
    if value >= 10_000:
        return seconds(value / 1e3)
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.3g} ms"


class Numbers:
    """The numbers of one report."""

    def __init__(self, report: Report, run: int = 0) -> None:
        self.report = report
        self._run = run

    def at(self, path: str) -> object:
        """What stands at this path of report.json."""
        value: object = self.report
        for name in path.split("."):
            if isinstance(value, list):
                value = value[int(name)]
            elif isinstance(value, dict):
                value = value[name]
            else:
                value = getattr(value, name)
        return value

    def definition(self, path: str) -> str:
        """What the report says that this number means; the places in lists do not matter."""
        name = ".".join(part for part in path.split(".") if not part.isdigit())
        return self.report.definitions.get(name, "")

    def show(self, path: str, as_text: Format = count) -> Markup:
        """One number; a dash where the report has none."""
        value = self.at(path)
        if not isinstance(value, (int, float)):
            return el("span", "-", title="not measured")
        return el(
            "data",
            as_text(value),
            value=repr(value),
            data_path=path,
            data_run=self._run,
            title=self.definition(path) or None,
        )

    def term(self, label: str, path: str) -> Markup:
        """The label of a number, with its definition."""
        return term(label, self.definition(path))
