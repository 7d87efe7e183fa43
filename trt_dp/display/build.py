"""What a person sees of a build: progress, and then what was built."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from trt_dp.builders import Watch
from trt_dp.builders.build import Built, Planned
from trt_dp.display import progress
from trt_dp.display.lines import megabytes
from trt_dp.system.safe_text import plain


@contextlib.contextmanager
def on_stderr() -> Iterator[Watch]:
    """Shows how far a build is."""
    with progress.on_stderr() as shown:
        yield lambda what, done, total: shown.update(what, done, total, megabytes(done, total))


def print_plan(planned: Planned) -> None:
    """Print the commands on stdout for a shell, and the rest on stderr."""
    print("\n".join(planned.commands))  # noqa: T201 - this is the result
    print(f"{planned.note}. No command was run", file=sys.stderr)  # noqa: T201


def told(built: Built) -> str:
    """What was chosen, what was built, and the next command."""
    parts = list(built.chosen)
    if built.checked:
        parts.append(f"check: {built.checked}")
    parts.append(f"written: {built.folder} ({built.size / 1e6:,.1f} MB, {built.seconds:.1f} s)")
    path = "" if str(built.folder) == "engines/default" else f" --engine-path {built.folder}"
    parts.append(f"next: trt-dp run{path}")
    return plain("\n".join(parts))
