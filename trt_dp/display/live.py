"""A run as it goes on, on a terminal: one bar, a line for each worker, and what happened last."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from typing_extensions import Self

from trt_dp.coordinator.record.event_log import LaneStatus, Status
from trt_dp.display.pace import Speeds, summary
from trt_dp.system.safe_text import plain

_REDRAW_SECONDS = 0.25
_MOST_LANES = 16
_STYLES = {"ready": "green", "loading": "cyan", "starting": "cyan", "dead": "red", "retired": "red"}


class LiveView:
    """A Live display of a run; it draws a few times a second at most."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=False)
        self._speeds = Speeds()
        self._events: list[str] = []
        self._drawn = 0.0

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop drawing; the last picture stays."""
        self._live.__exit__(None, None, None)

    def say(self, text: str) -> None:
        """Print a line above the picture."""
        self._console.print(Text(plain(text)), soft_wrap=True)

    def notes(self, texts: Sequence[str]) -> None:
        """The events to show below the workers."""
        self._events = [plain(text) for text in texts]

    def due(self) -> bool:
        """Whether the picture is old enough for another."""
        return time.monotonic() - self._drawn >= _REDRAW_SECONDS

    def draw(self, status: Status) -> None:
        """Show how far the run is."""
        self._drawn = time.monotonic()
        speeds = self._speeds.update(status)
        self._live.update(picture(status, speeds, self._events), refresh=True)

    def wait(self, what: str, done: int, total: int) -> None:
        """Show a bar for something that comes before the run."""
        if self.due() or done == total:
            self._drawn = time.monotonic()
            bar = ProgressBar(total=total or 1, completed=done, width=40)
            self._live.update(_row(Text(plain(what)), bar), refresh=True)


def picture(status: Status, speeds: Sequence[float], events: Sequence[str]) -> Group:
    """The whole picture."""
    parts: list[RenderableType] = [_top(status, sum(speeds)), _lanes(status, speeds)]
    parts += [
        Text(f"  {event}", style="dim", overflow="ellipsis", no_wrap=True) for event in events
    ]
    return Group(*parts)


def _top(status: Status, speed: float) -> Table:
    done, total = status.wanted_done, status.wanted_tokens
    if not total or status.completed == status.requests:
        done, total = status.completed, status.requests
    bar = ProgressBar(total=total or 1, completed=done, width=30)
    return _row(Text(status.ended or "running", style="bold"), bar, Text(summary(status, speed)))


def _row(*cells: RenderableType) -> Table:
    row = Table.grid(padding=(0, 1))
    row.add_row(*cells)
    return row


def _lanes(status: Status, speeds: Sequence[float]) -> Table:
    """A line for each worker; of many workers those that are not simply ready come first."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for title in ("  worker", "state", "in flight", "requests", "tok/s", "KV cache", "deaths"):
        table.add_column(title, justify="left" if title == "state" else "right", no_wrap=True)
    pairs = list(zip(status.lanes, speeds, strict=True))
    if len(pairs) > _MOST_LANES:
        pairs.sort(key=lambda pair: pair[0].state == "ready")
    for lane, speed in pairs[:_MOST_LANES]:
        table.add_row(*_cells(lane, speed))
    if rest := pairs[_MOST_LANES:]:
        table.add_row("", Text(f"and {len(rest):,} more", style="dim"))
    return table


def _cells(lane: LaneStatus, speed: float) -> list[RenderableType]:
    fill = "" if lane.kv_fill is None else f"{lane.kv_fill:.0%}"
    return [
        str(lane.worker),
        Text(plain(lane.state), style=_STYLES.get(lane.state, "")),
        f"{lane.in_flight:,}" + (f"/{lane.capacity:,}" if lane.capacity else ""),
        f"{lane.requests:,}",
        f"{speed:,.0f}",
        fill,
        Text(str(lane.deaths), style="red" if lane.deaths else "dim"),
    ]
