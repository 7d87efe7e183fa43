"""What the GPUs used; nothing for a run without."""

from __future__ import annotations

from collections.abc import Sequence

from trt_dp.report.page.html import Child, Markup, el, section, table
from trt_dp.report.page.marks import Scale, area, drawing, label, line, ticks, words
from trt_dp.report.page.numbers import Format, Numbers, percent
from trt_dp.report.sections import Energy, Gpu


def joules_text(joules: float) -> str:
    """Energy in the unit that a person would choose."""
    if joules >= 3.6e5:
        return f"{joules / 3.6e6:,.2f} kWh"
    return f"{joules / 1e3:,.1f} kJ" if joules >= 1e3 else f"{joules:.3g} J"


_WIDTH, _LEFT, _HEIGHT, _ROW = 1060.0, 86.0, 44.0, 60.0
_MOST_CURVES = 16
_COLUMNS: tuple[tuple[str, str, Format], ...] = (
    ("Energy", "energy_joules", joules_text),
    ("Mean power", "average_watts", lambda watts: f"{watts:,.0f} W"),
    ("Utilisation", "average_utilisation", percent),
    ("Peak memory", "peak_memory_bytes", lambda size: f"{size / 1e9:,.1f} GB"),
    ("Idle tail", "idle_tail_joules", joules_text),
)


def energy(numbers: Numbers) -> Markup | None:
    """Energy, power over time and cost."""
    found = numbers.report.energy
    if found is None or not (found.gpus or found.cost is not None):
        return None
    parts: list[Child] = [_lead(numbers, found)]
    if found.gpus:
        rows: list[list[Child]] = [
            [
                f"{gpu.device} {gpu.name}",
                *(numbers.show(f"energy.gpus.{i}.{n}", form) for _, n, form in _COLUMNS),
            ]
            for i, gpu in enumerate(found.gpus)
        ]
        head: list[Child] = ["GPU", *(numbers.term(t, f"energy.gpus.{n}") for t, n, _ in _COLUMNS)]
        parts += [_curves(found.gpus), table("GPUs", head, rows)]
    return section("energy", "GPUs and energy", *parts)


def _lead(numbers: Numbers, found: Energy) -> Markup:
    parts: list[Child] = []
    if found.joules is not None:
        parts += ["All GPUs used ", numbers.show("energy.joules", joules_text)]
        parts += [
            " (",
            numbers.show("energy.joules_per_output_token", lambda j: f"{j:.3g} J"),
            " per output token), ",
        ]
        parts += [
            numbers.show("energy.idle_tail_joules", joules_text),
            " of it while idle in the tail. ",
        ]
    parts += [numbers.show("energy.gpu_hours", lambda hours: f"{hours:.3g}"), " GPU hours"]
    if found.cost is not None:
        parts += [
            ", which cost ",
            numbers.show("energy.cost", lambda cost: f"{cost:,.2f}"),
            " at the price given",
        ]
    return el("p", *parts, ".")


def _curves(gpus: Sequence[Gpu]) -> Markup:
    """Power over time, a row per GPU."""
    shown = gpus[:_MOST_CURVES]
    high = max((w for gpu in shown for w in gpu.watts if w is not None), default=1.0) or 1.0
    drawn: list[Markup] = []
    for row, gpu in enumerate(shown):
        top = row * _ROW + 12
        down = Scale(0.0, high, top + _HEIGHT, top)
        across = Scale(0.0, len(gpu.watts), _LEFT, _WIDTH - 10)
        drawn.append(words(0, top + 12, f"GPU {gpu.device}"[:13], "label"))
        for tick in ticks(0.0, high, 2):
            drawn.append(line(_LEFT, down(tick), _WIDTH - 10, down(tick), "grid"))
            drawn.append(words(_LEFT - 8, down(tick) + 4, f"{label(tick)} W", "tick", "end"))
        for i, watts in enumerate(gpu.watts):
            if watts is not None:
                xs = [across(i), across(i + 1)]
                drawn.append(area(xs, [down(watts)], top + _HEIGHT, class_="curve"))
    size = (_WIDTH, len(shown) * _ROW + 12)
    return drawing(size, f"Power of {len(shown)} GPUs over the run, up to {high:,.0f} W", *drawn)
