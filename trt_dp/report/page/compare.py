"""Several runs side by side: a table, where their time went, scaling, and speed against latency."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from trt_dp.report.page.html import Child, Markup, el, join, section, table
from trt_dp.report.page.losses import bar
from trt_dp.report.page.marks import Scale, drawing, label, line, ticks, words
from trt_dp.report.page.numbers import Format, Numbers, count, milliseconds, percent, rate, seconds

_T95 = (
    12.71,
    4.303,
    3.182,
    2.776,
    2.571,
    2.447,
    2.365,
    2.306,
    2.262,
    2.228,
    2.201,
    2.179,
    2.16,
    2.145,
    2.131,
)
_T95_MANY = 2.0
_WIDTH, _HEIGHT, _LEFT, _BASE = 500.0, 300.0, 70.0, 250.0
_ROWS: tuple[tuple[str, str, Format], ...] = (
    ("Output tokens/s", "performance.system_output_throughput_tok_s", rate),
    ("Requests/s", "performance.request_throughput_req_s", rate),
    ("Wall time", "wall_seconds", seconds),
    ("Bound", "losses.bound_seconds", seconds),
    ("Of the bound", "losses.efficiency", percent),
    ("Latency p50", "performance.request_latency_percentiles_ms.p50", milliseconds),
    ("Latency p99", "performance.request_latency_percentiles_ms.p99", milliseconds),
    ("Answered", "requests.answered", count),
    ("Failed", "requests.failed", count),
    ("Ran again", "requests.redone", count),
    ("Copies", "requests.copies", count),
)

Runs = Sequence[tuple[str, Numbers]]
Point = tuple[float, float, str]


def compare(runs: Runs) -> Markup:
    """What differs between runs."""
    return section(
        "compare", "Side by side", _table(runs), _repeats(runs), _bars(runs),
        el("div", _scaling(runs), _pareto(runs), class_="grid wide-cells"),
    )  # fmt: skip


def _table(runs: Runs) -> Markup:
    first = runs[0][1]
    rows: list[list[Child]] = [
        [first.term(title, path), *(_cell(numbers, path, form) for _, numbers in runs)]
        for title, path, form in _ROWS
    ]
    workers: list[Child] = ["Workers", *(str(len(n.report.workers)) for _, n in runs)]
    return table("Runs", ["", *(name for name, _ in runs)], [workers, *rows])


def _cell(numbers: Numbers, path: str, form: Format) -> Child:
    if path.startswith("losses") and numbers.report.losses is None:
        return "-"
    return numbers.show(path, form)


def _repeats(runs: Runs) -> Markup | None:
    """Means with 95 % confidence intervals of runs that were asked for the same."""
    groups: dict[str, list[Numbers]] = {}
    for _, numbers in runs:
        groups.setdefault(_asked(numbers), []).append(numbers)
    rows: list[list[Child]] = [
        [_name(group[0]), str(len(group)), *(_interval(group, *what) for what in _MEASURES)]
        for group in groups.values()
        if len(group) > 1
    ]
    if not rows:
        return None
    head: list[Child] = [
        "Runs asked for the same",
        "n",
        *(title for title, _, _ in _MEASURES_NAMED),
    ]
    return table("Repeated runs: mean ± 95 % confidence interval (t)", head, rows)


def _throughput(numbers: Numbers) -> float:
    return numbers.report.performance.system_output_throughput_tok_s


def _p99(numbers: Numbers) -> float:
    return numbers.report.performance.request_latency_percentiles_ms.p99


def _wall(numbers: Numbers) -> float:
    return numbers.report.wall_seconds


_MEASURES_NAMED: tuple[tuple[str, Callable[[Numbers], float], Format], ...] = (
    ("Output tokens/s", _throughput, rate), ("Wall time", _wall, seconds), ("Latency p99", _p99, milliseconds),
)  # fmt: skip
_MEASURES = tuple((measure, form) for _, measure, form in _MEASURES_NAMED)


def _interval(group: Sequence[Numbers], measure: Callable[[Numbers], float], form: Format) -> str:
    values = [measure(numbers) for numbers in group]
    return f"{form(statistics.mean(values))} ± {form(half_width(values))}"


def half_width(values: Sequence[float]) -> float:
    """Half of the 95 % confidence interval of a mean, by Student's t."""
    freedom = len(values) - 1
    t = _T95[freedom - 1] if freedom <= len(_T95) else _T95_MANY
    return float(t * statistics.stdev(values) / len(values) ** 0.5)


def _asked(numbers: Numbers) -> str:
    report = numbers.report
    options = report.environment.options if report.environment else {}
    return f"{report.engine} {report.dataset} {len(report.workers)} {sorted(options.items())!s}"


def _name(numbers: Numbers) -> str:
    return f"{numbers.report.engine}, {len(numbers.report.workers)} workers"


def _bars(runs: Runs) -> Markup | None:
    """Where the time of each run went, on one scale."""
    known = [(name, n.report.losses) for name, n in runs if n.report.losses]
    if not known:
        return None
    wall = max(losses.wall_seconds for _, losses in known)
    bars = [join([el("h3", name), bar(losses, wall)]) for name, losses in known]
    return el("div", *bars)


def _scaling(runs: Runs) -> Markup | None:
    """Throughput over workers, against a straight line from the smallest run."""
    points = [(float(len(n.report.workers)), _throughput(n), name) for name, n in runs]
    counts = {x for x, _, _ in points}
    if len(counts) < 2 or min(counts) < 1:
        return None
    fewest = min(counts)
    base = statistics.mean(y for x, y, _ in points if x == fewest) / fewest
    most = max(counts)
    plot = _plot(
        points, ("workers", "output tokens/s"), max(most * base, *(y for _, y, _ in points))
    )
    ideal = line(
        plot.across(fewest),
        plot.down(fewest * base),
        plot.across(most),
        plot.down(most * base),
        "mark",
    )
    drawn = drawing((_WIDTH, _HEIGHT), _told("Scaling", points), ideal, *plot.marks, wide=False)
    caption = el("figcaption", "Dashed: as fast per worker as the run with the fewest workers.")
    return el("figure", el("h3", "Scaling"), drawn, caption)


def _pareto(runs: Runs) -> Markup | None:
    """Throughput against latency; runs that no other run beats in both are marked."""
    points = [(_p99(n), _throughput(n), name) for name, n in runs]
    best = front(points)
    plot = _plot(points, ("latency p99, ms", "output tokens/s"), max(y for _, y, _ in points), best)
    drawn = drawing(
        (_WIDTH, _HEIGHT), _told("Throughput against latency", points), *plot.marks, wide=False
    )
    caption = el(
        "figcaption",
        f"Filled: no other run is both faster and quicker to answer ({len(best)} of {len(points)}).",
    )
    return el("figure", el("h3", "Throughput against latency"), drawn, caption)


def front(points: Sequence[Point]) -> set[str]:
    """The names of the points that no other beats: lower x and higher y."""
    return {
        name
        for x, y, name in points
        if not any(a <= x and b >= y and (a, b) != (x, y) for a, b, _ in points)
    }


class _Plot:
    """Axes and points of a scatter plot."""

    def __init__(self, across: Scale, down: Scale, marks: list[Markup]) -> None:
        self.across, self.down, self.marks = across, down, marks


def _plot(
    points: Sequence[Point], axes: tuple[str, str], high: float, filled: set[str] | None = None
) -> _Plot:
    across = Scale(
        low=0.0, high=max(x for x, _, _ in points) * 1.08 or 1.0, start=_LEFT, end=_WIDTH - 20
    )
    down = Scale(low=0.0, high=high * 1.1 or 1.0, start=_BASE, end=12.0)
    marks = [line(_LEFT, _BASE, _WIDTH - 20, _BASE, "axis"), words(_WIDTH - 20, _BASE + 38, axes[0], "label", "end"),
             words(0, 10, axes[1], "label")]  # fmt: skip
    marks += [
        words(across(tick), _BASE + 18, label(tick), "tick", "middle")
        for tick in ticks(0.0, across.high, 5)
    ]
    for tick in ticks(0.0, down.high, 4):
        marks.append(line(_LEFT, down(tick), _WIDTH - 20, down(tick), "grid"))
        marks.append(words(_LEFT - 8, down(tick) + 4, label(tick), "tick", "end"))
    for x, y, name in points:
        kind = "point" if filled is None or name in filled else "point open"
        tip = el("title", f"{name}: {x:g}, {y:,.0f}")
        marks.append(
            el("circle", tip, cx=f"{across(x):.1f}", cy=f"{down(y):.1f}", r="6", class_=kind)
        )
        marks.append(words(across(x), down(y) - 11, name[-22:], "tick", "middle"))
    return _Plot(across, down, marks)


def _told(title: str, points: Sequence[Point]) -> str:
    return f"{title}. " + "; ".join(f"{name}: {x:g}, {y:,.0f}" for x, y, name in points)
