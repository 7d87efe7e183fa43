"""The command trt-dp: its sub-commands, and how errors end it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from trt_dp.cli import (
    agent,
    bench,
    build,
    calibrate,
    doctor,
    export,
    plan,
    prepare,
    report,
    run,
    serve,
    sweep,
    watch,
    workflow,
)
from trt_dp.cli.help import SPELLINGS, Command
from trt_dp.cli.plugins import plugins
from trt_dp.errors import Interrupted, TrtDpError
from trt_dp.system.safe_text import plain

_ORDER = (
    *("prepare-dataset", "build", "calibrate", "plan", "run", "workflow", "serve", "watch"),
    *("report", "export", "bench", "sweep", "doctor", "plugins", "agent"),
)


class Commands(TyperGroup):
    """The commands in the order in which a user meets them."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Those of the first job first, any other after them."""
        del ctx
        return sorted(self.commands, key=lambda name: (*_ORDER, name).index(name))


app = typer.Typer(
    cls=Commands,
    name="trt-dp",
    no_args_is_help=True,
    rich_markup_mode=None,  # boxes cost a third of a second and wrap badly on narrow terminals
    pretty_exceptions_enable=False,
    context_settings=SPELLINGS,
)
app.add_typer(prepare.app, name="prepare-dataset", short_help="Make a synthetic dataset.")


def _add(function: Callable[..., None], short: str, examples: str = "", cls: Any = Command) -> None:
    """A command with its line in the list of commands and its examples."""
    app.command(cls=cls, context_settings=SPELLINGS, short_help=short, epilog=examples)(function)


_add(build.build, "Build an engine from a model.", build.EXAMPLES, build.Command)
_add(calibrate.calibrate, "Measure how long an engine's steps take, for plan.", calibrate.EXAMPLES)
_add(plan.plan, "Show what a run will need and how long it will take.", plan.EXAMPLES)
_add(run.run, "Answer every request of a file.", run.EXAMPLES)
_add(workflow.workflow, "Run a JSON workflow of prompts.", workflow.EXAMPLES)
_add(serve.serve, "Start servers of OpenAI's API on all devices.", serve.EXAMPLES, serve.Command)
_add(watch.watch, "Show the progress of a run.", watch.EXAMPLES)
_add(report.report, "Print or compare the reports of runs.", report.EXAMPLES)
_add(export.export, "Write the answers of a run in another format.", export.EXAMPLES)
_add(bench.bench, "Measure OpenAI-compatible servers.", bench.EXAMPLES)
_add(sweep.sweep, "Find the best setting of servers.", sweep.EXAMPLES, serve.Command)
_add(doctor.doctor, "Show what is installed and what can run here.")
_add(agent.agent, "Work on a run of another machine.", agent.EXAMPLES)
_add(plugins, "List engines, builders, launchers and servers.")


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
