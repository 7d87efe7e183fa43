"""How latencies and lengths are distributed."""

from __future__ import annotations

from trt_dp.report.page.html import Child, Markup, el, section, table
from trt_dp.report.page.marks import Scale, drawing, label, line, rectangle, ticks, words
from trt_dp.report.page.numbers import Numbers, milliseconds
from trt_dp.report.schema import Percentiles
from trt_dp.report.sections import Histogram

_WIDTH, _HEIGHT, _LEFT, _BASE, _TOP = 340.0, 190.0, 44.0, 160.0, 12.0
_TITLES = {
    "latency": "Latency",
    "first_token": "Time to first token",
    "queue_wait": "Queue wait in the engine",
    "turnaround": "Turnaround",
    "input_tokens": "Input tokens",
    "output_tokens": "Output tokens",
}
_PATHS = {
    "latency": "performance.request_latency_percentiles_ms",
    "first_token": "performance.ttft_percentiles_ms",
    "queue_wait": "performance.queue_wait_percentiles_ms",
    "turnaround": "performance.turnaround_percentiles_ms",
}
_COLUMNS = ("minimum", "p50", "p90", "p95", "p99", "maximum", "average")
_FEW = 100


def distributions(numbers: Numbers) -> Markup | None:
    """Percentiles, and a histogram of everything that was measured."""
    if not numbers.report.performance.turnaround_percentiles_ms.count:
        return None
    figures = [
        _figure(numbers, name, found)
        for name in _TITLES
        if (found := numbers.report.histograms.get(name)) is not None
    ]
    return section(
        "distributions",
        "Latencies and lengths",
        _percentiles(numbers),
        el("div", *figures, class_="grid"),
    )


def _percentiles(numbers: Numbers) -> Markup:
    rows: list[list[Child]] = []
    for name, path in _PATHS.items():
        found = numbers.at(path)
        if isinstance(found, Percentiles) and found.count:
            few = f" (only {found.count} values)" if found.count < _FEW else ""
            first = el("span", numbers.term(_TITLES[name], path), few)
            rows.append([first, *(numbers.show(f"{path}.{c}", milliseconds) for c in _COLUMNS)])
    return table("Percentiles", ["", *_COLUMNS], rows)


def _figure(numbers: Numbers, name: str, found: Histogram) -> Markup:
    title = _TITLES[name]
    total = sum(found.counts)
    logarithmic = _grows(found)
    note = " Intervals grow towards the right." if logarithmic else ""
    place = f"{label_of(found.edges[0], found.unit)} to {label_of(found.edges[-1], found.unit)}"
    heading = el("h3", numbers.term(title, _PATHS[name]) if name in _PATHS else title)
    made = drawing(
        (_WIDTH, _HEIGHT), f"{title}: {total:,} values, {place}.{note}", *_bars(found), wide=False
    )
    return el("figure", heading, made, el("figcaption", f"{total:,} values, {place}.{note}"))


def _grows(found: Histogram) -> bool:
    edges = found.edges
    return len(edges) > 3 and edges[-1] - edges[-2] > 3 * (edges[2] - edges[1])


def _bars(found: Histogram) -> list[Markup]:
    """Bars of equal width, whatever their interval: so a long tail can be seen."""
    count = len(found.counts)
    across = Scale(low=0.0, high=count, start=_LEFT, end=_WIDTH - 6)
    down = Scale(low=0.0, high=max(found.counts), start=_BASE, end=_TOP)
    drawn = []
    for tick in ticks(0.0, down.high, 3):
        drawn.append(line(_LEFT, down(tick), _WIDTH - 6, down(tick), "grid"))
        drawn.append(words(_LEFT - 6, down(tick) + 4, label(tick), "tick", "end"))
    for i, values in enumerate(found.counts):
        if values:
            low, high = found.edges[i], found.edges[i + 1]
            tip = el(
                "title", f"{label_of(low, found.unit)} to {label_of(high, found.unit)}: {values:,}"
            )
            size = (across(i + 1) - across(i) - 0.8, max(1.0, _BASE - down(values)))
            drawn.append(rectangle(across(i), _BASE - size[1], size, tip, class_="histogram"))
    drawn.append(line(_LEFT, _BASE, _WIDTH - 6, _BASE, "axis"))
    for i in _marked(count):
        anchor = "start" if not i else "end" if i == count else "middle"
        drawn.append(
            words(across(i), _BASE + 18, label_of(found.edges[i], found.unit), "tick", anchor)
        )
    return drawn


def _marked(count: int) -> list[int]:
    return sorted({0, count // 3, 2 * count // 3, count}) if count > 6 else [0, count]


def label_of(value: float, unit: str) -> str:
    """A value of a histogram in few characters."""
    return milliseconds(value) if unit == "ms" else f"{value:,.0f}"
