"""What a user sees of a build: progress, and then what was built."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from trt_dp.builders import Watch
from trt_dp.builders.build import Built, Planned
from trt_dp.system.safe_text import plain

_LINE_SECONDS = 10.0


@contextlib.contextmanager
def on_stderr() -> Iterator[Watch]:
    """A progress bar on a terminal; otherwise a line every ten seconds."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(console)
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("building", total=None)
        yield lambda what, done, total: bar.update(
            task, description=escape(plain(what)), completed=done, total=total or None
        )


def print_plan(planned: Planned) -> None:
    """Commands on stdout, for a shell; all else on stderr."""
    print("\n".join(planned.commands))  # noqa: T201 - this is the result
    print(f"{planned.note}; nothing was run", file=sys.stderr)  # noqa: T201


def told(built: Built) -> str:
    """What was chosen, what was built, and the next command."""
    parts = list(built.chosen)
    if built.checked:
        parts.append(f"check: {built.checked}")
    parts.append(f"written: {built.folder} ({built.size / 1e6:,.1f} MB, {built.seconds:.1f} s)")
    path = "" if str(built.folder) == "engines/default" else f" --engine-path {built.folder}"
    parts.append(f"next: trt-dp run{path}")
    return plain("\n".join(parts))


class _Lines:
    """Progress as a line every ten seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said = time.monotonic()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Bytes so far."""
        if time.monotonic() - self._said >= _LINE_SECONDS:
            self._said = time.monotonic()
            of = f": {done / 1e6:,.0f} of {total / 1e6:,.0f} MB" if total else ""
            self._console.print(plain(f"{what}{of}"), markup=False, highlight=False)
