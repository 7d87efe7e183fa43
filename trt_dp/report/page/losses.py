"""Where the time went, as one bar and a table."""

from __future__ import annotations

from trt_dp.report.page.html import Child, Markup, el, section, table, term
from trt_dp.report.page.numbers import Numbers, percent, seconds
from trt_dp.report.sections import Losses

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


def bar(found: Losses, wall: float | None = None) -> Markup:
    """The bound and the parts of the loss end to end; `wall` is the time that fills the width."""
    pieces = [("Needed (the bound)", "bound", found.bound_seconds)]
    pieces += [
        (TITLES.get(p.cause, p.cause), p.cause, p.seconds) for p in found.parts if p.seconds > 0
    ]
    rest = (wall or found.wall_seconds) - sum(lasted for _, _, lasted in pieces)
    drawn = [_piece(*piece) for piece in pieces]
    if rest > 0:
        drawn.append(el("div", style=f"flex:{rest:.6g} 0 0"))
    name = "; ".join(f"{title}: {seconds(lasted)}" for title, _, lasted in pieces)
    return el("div", *drawn, class_="bar", role="img", aria_label=f"Where the time went. {name}")


def _piece(title: str, kind: str, lasted: float) -> Markup:
    shown = el("span", el("b", title), el("br"), seconds(lasted))
    style = f"flex:{lasted:.6g} 0 0"
    return el("div", shown, class_=f"c-{kind}", style=style, title=f"{title}: {seconds(lasted)}")


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
    return table("Lost time by cause", head, rows, class_="left-last causes")


def _name(numbers: Numbers, cause: str) -> Markup:
    return term(TITLES.get(cause, cause), numbers.definition(f"losses.causes.{cause}"))
