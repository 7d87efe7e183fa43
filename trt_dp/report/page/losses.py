"""Where the time went, as one bar and a table."""

from __future__ import annotations

from trt_dp.report.page.html import Child, Markup, el, section, table, term
from trt_dp.report.page.marks import Scale, drawing, line, rectangle, time_label, time_ticks, words
from trt_dp.report.page.numbers import Numbers, percent, seconds
from trt_dp.report.sections import Losses

_WIDTH, _BAR = 1060.0, 46.0
TITLES = {
    "index": "Indexing",
    "loading": "Loading",
    "skew": "Start-up skew",
    "dispatch": "Dispatch wait",
    "prefill": "Prefill",
    "pace": "Uneven pace",
    "long": "Long requests",
    "uneven": "Uneven workers",
    "ragged": "Ragged last wave",
    "restarts": "Restarts, redone work",
    "sorting": "Sorting",
    "stopping": "Stopping",
}
_IN_BAR = 70.0
_WORTH = 0.0005


def losses(numbers: Numbers) -> Markup | None:
    """The gap between the run and its bound; nothing for a report without."""
    found = numbers.report.losses
    if found is None:
        return None
    advice = (
        el("p", el("strong", "What would help: "), found.advice, class_="advice")
        if found.advice
        else None
    )
    return section(
        "losses", "Where the time went", _lead(numbers), advice, bar(found), _table(numbers, found)
    )


def _lead(numbers: Numbers) -> Markup:
    show, named = numbers.show, numbers.term
    found = numbers.report.losses
    by = found.bound_by if found else ""
    return el(
        "p",
        "The run took ", show("losses.wall_seconds", seconds), ". With full batches from first to last ",
        "it could not have taken less than ", show("losses.bound_seconds", seconds), " (",
        named("the bound", "losses.bound_seconds"), f", set by {by}): ",
        show("losses.efficiency", percent), " of the time was needed, ",
        show("losses.lost_seconds", seconds), " was lost.",
    )  # fmt: skip


def bar(found: Losses, wall: float | None = None, height: float = _BAR) -> Markup:
    """The bound and the parts of the loss end to end; `wall` is the time that fills the width."""
    scale = Scale(0.0, wall or found.wall_seconds, 0.0, _WIDTH)
    pieces = [("Needed (the bound)", "bound", found.bound_seconds)]
    pieces += [
        (TITLES.get(p.cause, p.cause), p.cause, p.seconds) for p in found.parts if p.seconds > 0
    ]
    drawn, at = [], 0.0
    for title, kind, lasted in pieces:
        drawn.append(_piece(scale, at, (title, kind, lasted), height))
        at += lasted
    axis = _axis(scale, height)
    name = "; ".join(f"{title}: {seconds(lasted)}" for title, _, lasted in pieces)
    return drawing((_WIDTH, height + 24), f"Where the time went. {name}", *drawn, *axis)


def _piece(scale: Scale, at: float, piece: tuple[str, str, float], height: float) -> Markup:
    title, kind, lasted = piece
    x, width = scale(at), scale(at + lasted) - scale(at)
    tip = el("title", f"{title}: {seconds(lasted)}")
    shape = rectangle(x, 0, (max(0.0, width - 1), height), tip, class_=f"c-{kind}", rx="2")
    if width < _IN_BAR or height < _BAR:
        return shape
    shown = title if width > 7.5 * len(title) + 16 else ""
    label = words(x + 8, height / 2 - 3, shown, "in strong") if shown else Markup()
    return Markup(
        shape + label + words(x + 8, height / 2 + (14 if shown else 5), seconds(lasted), "in")
    )


def _axis(scale: Scale, height: float) -> list[Markup]:
    marks = []
    for tick in time_ticks(0.0, scale.high):
        anchor = "start" if not tick else "end" if scale(tick) > _WIDTH - 20 else "middle"
        marks.append(line(scale(tick), height, scale(tick), height + 5, "axis"))
        marks.append(words(scale(tick), height + 19, time_label(tick, scale.high), "tick", anchor))
    return marks


def _table(numbers: Numbers, found: Losses) -> Markup:
    order = sorted(range(len(found.parts)), key=lambda i: -found.parts[i].seconds)
    rows: list[list[Child]] = [
        [
            el("span", el("i", class_=f"key c-{part.cause}"), _name(numbers, part.cause)),
            numbers.show(f"losses.parts.{i}.seconds", seconds),
            numbers.show(f"losses.parts.{i}.share", percent),
            el("span", numbers.definition(f"losses.causes.{part.cause}"), class_="note"),
        ]
        for i in order
        if abs((part := found.parts[i]).share) > _WORTH
    ]
    head: list[Child] = ["Cause", numbers.term("Seconds", "losses.parts.seconds"),
                         numbers.term("Share of loss", "losses.parts.share"), "What it is"]  # fmt: skip
    return table("Lost time by cause", head, rows, class_="left-last")


def _name(numbers: Numbers, cause: str) -> Markup:
    return term(TITLES.get(cause, cause), numbers.definition(f"losses.causes.{cause}"))
