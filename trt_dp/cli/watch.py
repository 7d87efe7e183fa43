"""The command watch: a run in another terminal, or on another machine that sees its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = """
trt-dp watch runs/first
trt-dp watch runs/first --once   # one line, for scripts
"""


def watch(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    plain: Annotated[
        bool, typer.Option("--plain", help="Print a line now and then instead of a live view.")
    ] = False,
    once: Annotated[
        bool, typer.Option("--once", help="Print how far the run is, and exit.")
    ] = False,
) -> None:
    """Show the progress of a run in another process, until the run ends."""
    from trt_dp.display.watch import watch

    watch(run, plain=plain, once=once)
