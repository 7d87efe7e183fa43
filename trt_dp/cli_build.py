"""The command build: a model becomes an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def build(
    model: Annotated[
        str | None,
        typer.Argument(
            help="A folder with a Hugging Face checkpoint, or its id. [default: a small demo model]"
        ),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(help="What to build for: cpu. [default: what this machine can run]"),
    ] = None,
    output: Annotated[Path, typer.Option(help="The folder of the engine.")] = Path(
        "engines/default"
    ),
    precision: Annotated[
        str | None,
        typer.Option(help="Of the weights: f32, bf16, f16, int8 or int4. [default: f32]"),
    ] = None,
    via: Annotated[
        str | None,
        typer.Option(help="Let another tool convert the model: optimum (for other architectures)."),
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Compare its answers with those of transformers and torch."),
    ] = False,
) -> None:
    """Build an engine from a model, for trt-dp run.

    It is built beside its place and moved there when it is whole; trt_dp.json in it says where it comes from.
    """
    from trt_dp import build as builder
    from trt_dp import display_build

    given = {"precision": precision, "via": via}
    options = {name: value for name, value in given.items() if value is not None}
    job = builder.Job(output, model, engine, options, check)
    with display_build.on_stderr() as watch:
        outcome = builder.build(job, watch)
    typer.echo(display_build.told(outcome))
