"""The page of a sweep: throughput against latency, every setting in a table; one file without scripts or network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from trt_dp.bench.spread import Spread
from trt_dp.bench.summary import DEFINITIONS, Summary
from trt_dp.bench.sweep.outcome import Outcome, measured
from trt_dp.report.page import document
from trt_dp.report.page.compare import front
from trt_dp.report.page.html import Child, Markup, el, section, table, term
from trt_dp.report.page.marks import Scale, drawing, label, line, ticks, words
from trt_dp.report.page.numbers import milliseconds, rate

_WIDTH, _HEIGHT, _LEFT, _BASE = 520.0, 320.0, 70.0, 270.0
_RIGHT, _TOP = _WIDTH - 20, 14.0
Point = tuple[float, float, str]
_FIGURES = (
    ("time per output token, median, ms", "tpot_ms", "Throughput against time per token"),
    ("time to first token, median, ms", "ttft_ms", "Throughput against time to first token"),
    ("end-to-end latency, median, ms", "latency_ms", "Throughput against latency"),
)
_COLUMNS = {"TTFT": "ttft_ms", "TPOT": "tpot_ms", "latency": "latency_ms"}


def page(title: str, outcomes: Sequence[Outcome], chosen: Outcome | None, command: str) -> str:
    """All settings of a sweep; `chosen` is the best, and `command` starts it."""
    good = measured(outcomes)
    figures = [_figure(good, *figure) for figure in _FIGURES] if good else []
    body = [
        el("header", el("h1", title), el("p", _counted(outcomes), class_="what")),
        _best(chosen, command),
        section(
            "figures", "Throughput against latency", el("div", *figures, class_="grid wide-cells")
        ),
        section("settings", "Settings", _table(outcomes, chosen)),
        section("definitions", "Definitions", _definitions()),
    ]
    return document(title, body, "Drawn by trt-dp from the results of a sweep.")


def _counted(outcomes: Sequence[Outcome]) -> str:
    failed = len(outcomes) - len(measured(outcomes))
    told = f"{len(outcomes)} settings of servers, each started, measured and stopped"
    return f"{told}; {failed} failed" if failed else told


def _best(chosen: Outcome | None, command: str) -> Markup:
    if chosen is None or chosen.summary is None:
        return section(
            "best", "Best setting", el("p", "None keeps the limits.", class_="advice bad")
        )
    told = f"{chosen.setting.name}: {rate(chosen.speed)} output tokens/s. Start it with:"
    lines = [el("p", el("code", one), class_="advice") for one in command.splitlines()]
    return section("best", "Best setting", el("p", told), *lines)


def _figure(good: Sequence[Outcome], axis: str, name: str, title: str) -> Markup:
    points = [_point(one, name) for one in good]
    best = front(points)
    told = "; ".join(f"{called}: {x:g} ms, {y:,.0f} tokens/s" for x, y, called in points)
    drawn = drawing((_WIDTH, _HEIGHT), f"{title}. {told}", *_plot(points, best, axis), wide=False)
    counted = f"{len(best)} of {len(points)}"
    caption = f"Filled and named: no other setting is both faster and quicker ({counted})."
    return el("figure", el("h3", title), drawn, el("figcaption", caption))


def _point(outcome: Outcome, name: str) -> Point:
    found: Spread | None = getattr(outcome.summary, name)
    return (found.p50 if found else 0.0, outcome.speed, outcome.setting.name)


def _plot(points: Sequence[Point], best: set[str], axis: str) -> list[Markup]:
    across = Scale(low=0.0, high=max(x for x, _, _ in points) * 1.1 or 1.0, start=_LEFT, end=_RIGHT)
    down = Scale(low=0.0, high=max(y for _, y, _ in points) * 1.12 or 1.0, start=_BASE, end=_TOP)
    marks = _axes(across, down, axis)
    ahead = sorted(point for point in points if point[2] in best)
    for (x1, y1, _), (x2, y2, _) in pairwise(ahead):
        marks.append(line(across(x1), down(y1), across(x2), down(y2), "mark"))
    for point in points:
        marks += _dot(point, across, down, filled=point[2] in best)
    return marks


def _axes(across: Scale, down: Scale, axis: str) -> list[Markup]:
    marks = [
        line(_LEFT, _BASE, _RIGHT, _BASE, "axis"),
        words(_RIGHT, _BASE + 38, axis, "label", "end"),
        words(0, 10, "output tokens/s", "label"),
    ]
    marks += [
        words(across(tick), _BASE + 18, label(tick), "tick", "middle")
        for tick in ticks(0.0, across.high, 5)
    ]
    for tick in ticks(0.0, down.high, 4):
        marks.append(line(_LEFT, down(tick), _RIGHT, down(tick), "grid"))
        marks.append(words(_LEFT - 8, down(tick) + 4, label(tick), "tick", "end"))
    return marks


def _dot(point: Point, across: Scale, down: Scale, *, filled: bool) -> list[Markup]:
    x, y, name = point
    tip = el("title", f"{name}: {milliseconds(x)}, {y:,.0f} tokens/s")
    kind = "point" if filled else "point open"
    dot = el("circle", tip, cx=f"{across(x):.1f}", cy=f"{down(y):.1f}", r="6", class_=kind)
    return [dot, words(across(x), down(y) - 11, name, "tick", "middle")] if filled else [dot]


def _table(outcomes: Sequence[Outcome], chosen: Outcome | None) -> Markup:
    head: list[Child] = [
        "", "devices", term("output tokens/s", DEFINITIONS["output_tok_s"]), "per device",
        *(term(f"{title} p50", DEFINITIONS[name]) for title, name in _COLUMNS.items()),
        *(term(f"{title} p99", DEFINITIONS[name]) for title, name in _COLUMNS.items()), "failed",
    ]  # fmt: skip
    return table("Every setting", head, [_row(one, best=one is chosen) for one in outcomes])


def _row(outcome: Outcome, *, best: bool) -> list[Child]:
    setting, told = outcome.setting, outcome.summary
    first = el("span", setting.name, " (best)" if best else "")
    if told is None:
        reason = (outcome.failed or "").partition("\n")[0]
        return [
            first,
            str(setting.devices),
            el("span", f"failed: {reason}", class_="bad"),
            *[""] * 8,
        ]
    per_device = rate(outcome.speed / setting.devices)
    return [
        first, str(setting.devices), rate(outcome.speed), per_device,
        *_times(told, lambda found: found.p50), *_times(told, lambda found: found.p99),
        f"{told.failed:,}",
    ]  # fmt: skip


def _times(told: Summary, pick: Callable[[Spread], float]) -> list[Child]:
    found = (getattr(told, name) for name in _COLUMNS.values())
    return [milliseconds(pick(one)) if one else "-" for one in found]


def _definitions() -> Markup:
    rows = [el("p", el("code", name), ": ", said) for name, said in DEFINITIONS.items()]
    return el("div", *rows)
