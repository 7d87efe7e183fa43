"""The command report: the numbers of finished runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = """
trt-dp report runs/first
trt-dp report runs/one-worker runs/two-workers   # side by side
"""


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")],
) -> None:
    """Print the report of a run, or compare several side by side."""
    from trt_dp import api
    from trt_dp.display.report import print_reports

    print_reports([(str(folder), api.load_report(folder)) for folder in runs])
