"""The command export: the answers of a finished run in another format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trt_dp.system.safe_text import plain

EXAMPLES = """
trt-dp export runs/first --format parquet
trt-dp export runs/first --format openai --output batch_output.jsonl
trt-dp export runs/first --format text --output -    # answers on stdout
"""


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    format_: Annotated[
        str, typer.Option("--format", help="Format; trt-dp plugins lists the writers.")
    ],
    output: Annotated[
        str | None,
        typer.Option(help="File to write, or - for stdout. [default: a file in the run folder]"),
    ] = None,
) -> None:
    """Write the answers of a finished run in another format, in input order, with the columns of the input."""
    from trt_dp.coordinator.export import export_run

    written = export_run(run, format_, output)
    if written:
        typer.echo(f"answers: {plain(written.answers)}")
    if written and written.errors:
        typer.echo(f"errors: {plain(written.errors)}")
