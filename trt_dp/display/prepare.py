"""What a user sees of prepare-dataset: a bar on a terminal while it works, and then what was made."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import Progress

from trt_dp.synthetic.prepare import DEFAULT_OUTPUT, Preparation, Prepared
from trt_dp.synthetic.summary import as_text
from trt_dp.system.safe_text import plain

_LINE_SECONDS = 10.0


@contextlib.contextmanager
def on_stderr() -> Iterator[Callable[[int, int], None]]:
    """A bar where someone watches, a line every ten seconds where nobody does."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(console)
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("writing", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total or None)


def told(asked: Preparation, made: Prepared) -> str:
    """What was chosen, what came of it, and the next command."""
    parts = [*made.chosen, "", as_text(made.summary), ""]
    if asked.output is None:
        return plain("\n".join(parts[:-1]))
    size = f"{made.size / 1e6:,.1f} MB"
    done = "already there, byte for byte" if made.already else "written"
    parts.append(f"{done}: {asked.output} ({size})")
    if asked.layout != "openai":
        path = "" if asked.output == DEFAULT_OUTPUT else f" --request-path {asked.output}"
        parts.append(f"next: trt-dp run{path} (trt-dp build makes the engine)")
    return plain("\n".join(parts))


class _Lines:
    """Where the work is, now and then."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        """Requests so far."""
        if time.monotonic() - self._said >= _LINE_SECONDS:
            self._said = time.monotonic()
            of = f" of {total:,}" if total else ""
            self._console.print(f"writing: {done:,}{of} requests", highlight=False)
