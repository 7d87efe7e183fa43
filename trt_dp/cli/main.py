"""The command trt-dp: its sub-commands, and how errors end it."""

from __future__ import annotations

import contextlib
import sys
from typing import Annotated

import typer

from trt_dp.cli import build, doctor, prepare, report, run
from trt_dp.cli.help import SPELLINGS, Command
from trt_dp.cli.plugins import plugins
from trt_dp.errors import Interrupted, TrtDpError
from trt_dp.system.safe_text import plain

app = typer.Typer(
    name="trt-dp",
    help="Offline data-parallel LLM inference: one file of requests, N engines, ordered results.",
    no_args_is_help=True,
    rich_markup_mode=None,  # boxes cost a third of a second and wrap badly on narrow terminals
    pretty_exceptions_enable=False,
    context_settings=SPELLINGS,
)
app.add_typer(prepare.app, name="prepare-dataset")
app.command(cls=build.Command, context_settings=build.SPELLINGS)(build.build)
app.command(cls=Command, context_settings=SPELLINGS, epilog=run.EXAMPLES)(run.run)
app.command(cls=Command, context_settings=SPELLINGS, epilog=report.EXAMPLES)(report.report)
app.command(cls=Command, context_settings=SPELLINGS)(doctor.doctor)
app.command(cls=Command, context_settings=SPELLINGS)(plugins)


def main() -> None:
    """Run a command; a TrtDpError is one sentence on stderr, anything else is a bug with its traceback."""
    try:
        app()
    except TrtDpError as error:
        typer.echo(f"trt-dp: {plain(error)}", err=True)
        sys.exit(error.exit_status)
    except OSError as error:  # the environment: a full disk, a missing permission
        named = f"{error.filename}: " if error.filename else ""
        with contextlib.suppress(OSError):
            typer.echo(f"trt-dp: {plain(named)}{plain(error.strerror or error)}", err=True)
        sys.exit(TrtDpError.exit_status)
    except KeyboardInterrupt:
        typer.echo("trt-dp: stopped", err=True)
        sys.exit(Interrupted.exit_status)


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True)
    ] = False,
) -> None:
    """Offline data-parallel LLM inference: one file of requests, N engines, ordered results."""
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"trt-dp {installed('trt-dp')}")
        raise typer.Exit
