"""The command trt-dp: its sub-commands, and how errors end it."""

from __future__ import annotations

import contextlib
import sys
from typing import Annotated

import typer

from trt_dp.cli.commands import Commands
from trt_dp.cli.help import SPELLINGS
from trt_dp.errors import Interrupted, TrtDpError
from trt_dp.system.safe_text import plain

app = typer.Typer(
    cls=Commands,
    name="trt-dp",
    no_args_is_help=True,
    rich_markup_mode=None,  # boxes cost a third of a second and wrap badly on narrow terminals
    pretty_exceptions_enable=False,
    context_settings=SPELLINGS,
)


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


def _show_version(asked: bool) -> None:  # noqa: FBT001 - typer calls it with the flag's value
    if asked:
        from importlib.metadata import version

        typer.echo(f"trt-dp {version('trt-dp')}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", is_eager=True, callback=_show_version
        ),
    ] = False,
) -> None:
    """Offline data-parallel LLM inference: one file of requests, N engines, ordered results."""
