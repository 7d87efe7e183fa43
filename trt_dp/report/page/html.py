"""HTML that cannot be broken by what it shows: text is escaped unless it was made here."""

from __future__ import annotations

from html import escape

from trt_dp.system.safe_text import plain


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child = Markup | str | None

_VOID = {"meta", "br", "path", "rect", "line", "circle", "polyline"}


def text(value: object) -> Markup:
    """Anything as text, whatever it holds."""
    return value if isinstance(value, Markup) else Markup(escape(plain(value)))


def join(parts: object) -> Markup:
    """Pieces of HTML one after the other."""
    return Markup("".join(text(part) for part in parts if part is not None))  # type: ignore[attr-defined]


def el(tag: str, /, *children: Child, **attributes: object) -> Markup:
    """An element; `class_` is the attribute class, `aria_label` is aria-label, None leaves an attribute away."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(plain(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if tag in _VOID and not children:
        return Markup(f"<{tag}{given}{'' if tag == 'meta' else '/'}>")
    return Markup(f"<{tag}{given}>{join(children)}</{tag}>")


def section(identity: str, title: str, *children: Child) -> Markup:
    """A part of the page under a heading; nothing where there is nothing to show."""
    heading = el("h2", title, id=f"{identity}-title")
    return el("section", heading, *children, id=identity, aria_labelledby=f"{identity}-title")


def term(label: str, definition: str) -> Markup:
    """A word with its definition, shown on hover, on focus and to screen readers."""
    if not definition:
        return text(label)
    tip = el("span", definition, class_="tip", role="tooltip")
    return el("span", label, tip, class_="term", tabindex="0")


def table(caption: str, head: list[Child], rows: list[list[Child]], **attributes: object) -> Markup:
    """A table whose first column names its rows; it scrolls by itself where it is too wide."""
    top = el("tr", *(el("th", cell, scope="col") if cell else el("td") for cell in head))
    body = [
        el("tr", el("th", row[0], scope="row"), *(el("td", cell) for cell in row[1:]))
        for row in rows
    ]
    made = el("table", el("caption", caption), el("thead", top), el("tbody", *body), **attributes)
    return el(
        "div", made, class_="scroll", tabindex="0", role="region", aria_label=f"Table: {caption}"
    )
