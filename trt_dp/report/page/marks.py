"""The few shapes that the figures are made of, as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec import Struct

from trt_dp.report.page.html import Markup, el

_NICE = (1.0, 2.0, 2.5, 5.0, 10.0)


class Scale(Struct, frozen=True):
    """Maps values from `low` to `high` onto pixels from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        span = self.high - self.low or 1.0
        return self.start + (value - self.low) / span * (self.end - self.start)


def ticks(low: float, high: float, wanted: int = 6) -> list[float]:
    """Round values between two others, about as many as wanted."""
    if high <= low:
        return [low]
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * nice for nice in _NICE if power * nice >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [step * i for i in range(first, math.floor(high / step + 1e-9) + 1)]


def label(value: float) -> str:
    """A tick's value in few characters."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if letter == 'k' else size):g}{letter}"
    return f"{value:g}"


def time_label(value: float, span: float) -> str:
    """A moment of a run."""
    if span >= 7200:
        return f"{value / 3600:g} h"
    return f"{value / 60:g} min" if span >= 300 else f"{value:g} s"


def time_ticks(low: float, high: float, wanted: int = 8) -> list[float]:
    """Round moments, in the unit in which they are shown."""
    unit = 3600.0 if high - low >= 7200 else 60.0 if high - low >= 300 else 1.0
    return [tick * unit for tick in ticks(low / unit, high / unit, wanted)]


def area(xs: Sequence[float], ys: Sequence[float], base: float, **attributes: object) -> Markup:
    """A filled curve of steps: one more x than y."""
    points = [f"M{_n(xs[0])} {_n(base)}"]
    for left, right, y in zip(xs[:-1], xs[1:], ys, strict=True):
        points.append(f"L{_n(left)} {_n(y)}H{_n(right)}")
    return el("path", d=f"{''.join(points)}L{_n(xs[-1])} {_n(base)}Z", **attributes)


def rectangle(
    x: float, y: float, size: tuple[float, float], *children: Markup, **attributes: object
) -> Markup:
    """A rectangle; a child says what it is."""
    width, height = size
    given = {"x": _n(x), "y": _n(y), "width": _n(max(0.0, width)), "height": _n(height)}
    return el("rect", *children, **given, **attributes)


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    """A thin line."""
    return el("line", x1=_n(x1), y1=_n(y1), x2=_n(x2), y2=_n(y2), class_=kind)


def words(x: float, y: float, content: str, kind: str = "", anchor: str = "start") -> Markup:
    """Text in a figure."""
    return el("text", content, x=_n(x), y=_n(y), class_=kind or None, text_anchor=anchor)


def drawing(size: tuple[float, float], title: str, *children: Markup, wide: bool = True) -> Markup:
    """A figure that a screen reader reads as its title; a wide one scrolls on a small screen."""
    width, height = size
    made = el(
        "svg",
        *children,
        viewBox=f"0 0 {_n(width)} {_n(height)}",
        role="img",
        aria_label=title,
        class_="wide" if wide else "small",
    )
    if not wide:
        return made
    return el("div", made, class_="scroll", tabindex="0", role="region", aria_label=title)


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
