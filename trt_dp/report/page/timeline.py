"""Workers over time: what each was doing, how full its batch was, and what all of them together produced."""

from __future__ import annotations

import math

from trt_dp.report.page.html import Markup, el, section
from trt_dp.report.page.marks import (
    Scale,
    area,
    drawing,
    label,
    line,
    rectangle,
    ticks,
    time_label,
    time_ticks,
    words,
)
from trt_dp.report.schema import Report
from trt_dp.report.sections import Lane, Timeline

_WIDTH, _LEFT, _RIGHT = 1060.0, 86.0, 10.0
_CURVE, _GAP = 90.0, 26.0
_STATES = ("starting", "loading", "ready", "dead", "retired")
_LANES_HEIGHT, _MOST_LANE, _LEAST_LANE = 640.0, 30.0, 3.0


def timelines(report: Report) -> Markup | None:
    """The run and its tail; nothing for a report without."""
    if report.timeline is None:
        return None
    deaths = [(death.worker, death.at_seconds) for death in report.deaths]
    parts = [_figure(report.timeline, deaths, "The whole run"), _legend(bool(deaths))]
    whole = section("timeline", "Workers over time", *parts)
    if report.tail is None:
        return whole
    note = el(
        "p",
        "The same from shortly before the last request was sent: from the dashed line on nothing is pending.",
        class_="note",
    )
    tail = section(
        "tail",
        "The tail, zoomed",
        note,
        _figure(report.tail, deaths, "The tail", _last_send(report)),
    )
    return Markup(whole + tail)


def _last_send(report: Report) -> float:
    return sum(report.phases_seconds.get(name, 0.0) for name in ("index", "start", "load", "feed"))


def _figure(
    shown: Timeline, deaths: list[tuple[int, float]], title: str, mark: float | None = None
) -> Markup:
    count = len(shown.completed_per_second)
    end = shown.start_seconds + count * shown.interval_seconds
    across = Scale(low=shown.start_seconds, high=end, start=_LEFT, end=_WIDTH - _RIGHT)
    xs = [across(shown.start_seconds + i * shown.interval_seconds) for i in range(count + 1)]
    row = max(_LEAST_LANE, min(_MOST_LANE, _LANES_HEIGHT / max(1, len(shown.lanes))))
    tokens = [
        sum(values)
        for values in zip(*(lane.tokens_per_second for lane in shown.lanes), strict=True)
    ]
    top = _CURVE + _GAP + 10
    bottom = top + row * len(shown.lanes)
    drawn = [
        *_curve("tokens/s", tokens, xs, (14.0, _CURVE)),
        *_lanes(shown, across, xs, (top, row)),
        *_deaths(shown, deaths, across, (top, row)),
        *_curve("pending", [float(n) for n in shown.pending], xs, (bottom + _GAP, 46.0)),
        *_axis(across, bottom + _GAP + 50),
    ]
    if mark is not None:
        drawn.append(line(across(mark), 10, across(mark), bottom + _GAP + 46, "mark"))
    return drawing((_WIDTH, bottom + _GAP + 76), f"{title}. {_summary(shown, tokens)}", *drawn)


def _summary(shown: Timeline, tokens: list[float]) -> str:
    return (
        f"{len(shown.lanes)} workers over {len(tokens)} intervals of {shown.interval_seconds:.3g} s; "
        f"at most {max(tokens, default=0):,.0f} output tokens per second"
    )


def _curve(
    name: str, values: list[float], xs: list[float], place: tuple[float, float]
) -> list[Markup]:
    top, height = place
    high = max(values, default=0.0) or 1.0
    down = Scale(low=0.0, high=high, start=top + height, end=top)
    drawn = [words(0, top + 11, name, "label")]
    for tick in ticks(0.0, high, 3 if height > 60 else 1):
        drawn.append(line(_LEFT, down(tick), _WIDTH - _RIGHT, down(tick), "grid"))
        drawn.append(words(_LEFT - 8, down(tick) + 4, label(tick), "tick", "end"))
    return [*drawn, area(xs, [down(value) for value in values], top + height, class_="curve")]


def _lanes(
    shown: Timeline, across: Scale, xs: list[float], place: tuple[float, float]
) -> list[Markup]:
    top, row = place
    full = max((value for lane in shown.lanes for value in lane.running), default=0.0) or 1.0
    drawn = [words(0, top - 8, f"workers (height: running requests, up to {full:.3g})", "label")]
    every = max(1, math.ceil(14 / row))
    for number, lane in enumerate(shown.lanes):
        y = top + number * row
        if number % every == 0:
            drawn.append(
                words(_LEFT - 8, y + min(row, 20) / 2 + 4, str(lane.worker), "tick", "end")
            )
        drawn += _lane(lane, across, xs, (y, row, full))
    return drawn


def _lane(
    lane: Lane, across: Scale, xs: list[float], place: tuple[float, float, float]
) -> list[Markup]:
    y, row, full = place
    height = row - (2 if row > 8 else 0.5)
    drawn = []
    for span in lane.states:
        tip = el(
            "title", f"worker {lane.worker} {span.state}: {span.start:.2f} to {span.end:.2f} s"
        )
        kind = span.state if span.state in _STATES else "ready"
        width = across(span.end) - across(span.start)
        drawn.append(rectangle(across(span.start), y, (width, height), tip, class_=f"s-{kind}"))
    down = Scale(low=0.0, high=full, start=y + height, end=y)
    return [*drawn, area(xs, [down(value) for value in lane.running], y + height, class_="busy")]


def _deaths(
    shown: Timeline, deaths: list[tuple[int, float]], across: Scale, place: tuple[float, float]
) -> list[Markup]:
    top, row = place
    rows = {lane.worker: number for number, lane in enumerate(shown.lanes)}
    drawn = []
    for worker, at in deaths:
        if worker in rows and across.low <= at <= across.high:
            tip = el("title", f"worker {worker} died at {at:.2f} s")
            y = top + rows[worker] * row
            drawn.append(rectangle(across(at) - 1.5, y, (3.0, row - 1), tip, class_="death"))
    return drawn


def _axis(across: Scale, y: float) -> list[Markup]:
    span = across.high - across.low
    drawn = [line(across.start, y, across.end, y, "axis")]
    for tick in time_ticks(across.low, across.high):
        drawn.append(line(across(tick), y, across(tick), y + 5, "axis"))
        drawn.append(words(across(tick), y + 19, time_label(tick, span), "tick", "middle"))
    return drawn


def _legend(deaths: bool) -> Markup:  # noqa: FBT001 - one switch, named where it is called
    entries = [
        ("s-starting", "starting"),
        ("s-loading", "loading"),
        ("busy", "busy"),
        ("s-ready", "idle, or slots free"),
    ]
    entries += [("death", "death"), ("s-retired", "retired")] if deaths else []
    keys = [el("span", el("i", class_=f"key {kind}"), name) for kind, name in entries]
    return el("p", *keys, class_="legend")
