"""The command workflow: run the nodes of a JSON document."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from trt_dp.cli.help import DEVICES, ENGINE, INPUT, OUTPUT, RELIABILITY

EXAMPLES = """
trt-dp workflow my.json --dry-run                              # check it, and show nodes, workers and commands
trt-dp workflow my.json                                        # run it; again: resumes where it stopped
trt-dp workflow my.json --engine cpu --engine-path engines/smollm   # the same prompts on another model
trt-dp workflow my.json --strict                               # stop rather than skip rows or use fewer workers
"""


class Level(str, Enum):
    """Which lines are printed; the log file has all of them."""

    debug = "DEBUG"
    info = "INFO"
    warning = "WARNING"
    error = "ERROR"


def workflow(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE.json", envvar="WORKFLOW_PATH", help="The workflow.", show_default=False
        ),
    ],
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Check everything, print the plan, and run nothing.",
            rich_help_panel=INPUT,
        ),
    ] = False,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Stop where rows would be skipped, prompts have empty places, or fewer workers run.",
            rich_help_panel=RELIABILITY,
        ),
    ] = False,
    engine: Annotated[
        str | None,
        typer.Option(
            help="Engine for all text_prompt nodes, in place of their inference_engine.",
            rich_help_panel=ENGINE,
        ),
    ] = None,
    engine_path: Annotated[
        Path | None,
        typer.Option(
            help="Model folder for all text_prompt nodes, in place of their model_name.",
            rich_help_panel=ENGINE,
        ),
    ] = None,
    n_workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Workers for all text_prompt nodes, in place of their data_parallel_size.",
            rich_help_panel=DEVICES,
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            min=0, help="Seed of sampled answers and of drawn examples.", rich_help_panel=INPUT
        ),
    ] = 0,
    fresh: Annotated[
        bool,
        typer.Option(
            "--fresh",
            help="Delete what an earlier run of this workflow answered, and start over.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    log_level: Annotated[
        Level, typer.Option(help="Print lines from this level on.", rich_help_panel=OUTPUT)
    ] = Level.info,
    plain_: Annotated[
        bool,
        typer.Option("--plain", help="Print lines instead of a live view.", rich_help_panel=OUTPUT),
    ] = False,
) -> None:
    """Run a JSON workflow: nodes that load rows, prompt a model for each, and combine the answers.

    Run it again to resume it: only what has no answer yet is asked.
    """
    from trt_dp.display import workflow as display
    from trt_dp.workflow.contract import Wishes
    from trt_dp.workflow.execute import execute
    from trt_dp.workflow.log import Log
    from trt_dp.workflow.plan import obstacles, plan
    from trt_dp.workflow.prepare import prepare, scope_of

    wishes = Wishes(
        engine=engine,
        engine_path=engine_path,
        workers=n_workers,
        seed=seed,
        strict=strict,
        fresh=fresh,
    )
    log = Log(display.show, log_level.value)
    scope = scope_of(file, wishes, log, lambda: display.live(plain=plain_))
    works = prepare(scope)
    if dry_run:
        typer.echo("\n".join([*plan(works), *obstacles(works)]))
        return
    if any(one.failed for one in execute(scope, works)):
        sys.exit(3)
