"""The command report: the numbers of finished runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = """
trt-dp report runs/first
trt-dp report runs/one-worker runs/two-workers            # side by side
trt-dp report runs/one runs/two --html comparison.html    # as a page to look at
"""


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")],
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a page to this file instead of printing a table."),
    ] = None,
) -> None:
    """Print the report of a run, or compare several side by side."""
    from trt_dp import api
    from trt_dp.display.report import print_reports

    if html is None:
        print_reports([(str(folder), api.load_report(folder)) for folder in runs])
    else:
        typer.echo(f"report: {api.write_page(runs, html)}")
