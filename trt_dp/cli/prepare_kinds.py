"""The kinds of dataset, one command each: its options become a workload, which `ctx.obj` makes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from trt_dp.cli.help import INPUT, LENGTHS
from trt_dp.synthetic.workload import Empirical, Lognormal, Normal, Text, Uniform

Requests = Annotated[
    int, typer.Option("--num-requests", help="Number of requests.", rich_help_panel=LENGTHS)
]
Count = Annotated[int, typer.Option(help="Number of tokens.", rich_help_panel=LENGTHS)]
Column = Annotated[
    str | None,
    typer.Option(
        metavar="TITLE", help="Column of the CSV file with these lengths.", rich_help_panel=LENGTHS
    ),
]
Sigma = Annotated[
    float, typer.Option(help="The standard deviation of the logarithm.", rich_help_panel=LENGTHS)
]


def normal(
    ctx: typer.Context,
    requests: Requests = 3000,
    input_mean: Count = 2048,
    input_stdev: Count = 0,
    output_mean: Count = 128,
    output_stdev: Count = 0,
) -> None:
    """Lengths from normal distributions, at least 1."""
    workload = Normal(
        requests=requests,
        input_mean=input_mean,
        input_stdev=input_stdev,
        output_mean=output_mean,
        output_stdev=output_stdev,
    )
    ctx.obj(workload)


def uniform(
    ctx: typer.Context,
    input_min: Count,
    input_max: Count,
    output_min: Count,
    output_max: Count,
    requests: Requests = 3000,
) -> None:
    """Lengths from uniform distributions, bounds included."""
    workload = Uniform(
        requests=requests,
        input_min=input_min,
        input_max=input_max,
        output_min=output_min,
        output_max=output_max,
    )
    ctx.obj(workload)


def lognormal(
    ctx: typer.Context,
    requests: Requests = 3000,
    input_median: Count = 1024,
    input_sigma: Sigma = 1.0,
    input_cap: Count = 32768,
    output_median: Count = 128,
    output_sigma: Sigma = 1.0,
    output_cap: Count = 4096,
) -> None:
    """Long-tailed lengths, from log-normal distributions; longer ones become the cap."""
    workload = Lognormal(
        requests=requests,
        input_median=input_median,
        input_sigma=input_sigma,
        input_cap=input_cap,
        output_median=output_median,
        output_sigma=output_sigma,
        output_cap=output_cap,
    )
    ctx.obj(workload)


def empirical(
    ctx: typer.Context,
    lengths: Annotated[
        Path,
        typer.Option(
            help="A dataset, or a CSV file with columns of both lengths.", rich_help_panel=INPUT
        ),
    ],
    requests: Requests = 3000,
    apart: Annotated[
        bool,
        typer.Option(
            "--apart",
            help="Draw inputs and outputs separately, not as pairs.",
            rich_help_panel=LENGTHS,
        ),
    ] = False,
    input_column: Column = None,
    output_column: Column = None,
) -> None:
    """Lengths drawn from another dataset or a CSV file; pairs stay together."""
    workload = Empirical(
        requests=requests,
        path=lengths,
        apart=apart,
        input_column=input_column,
        output_column=output_column,
    )
    ctx.obj(workload)


def text(
    ctx: typer.Context,
    input_file: Annotated[
        Path,
        typer.Option(
            "--input",
            help="Text (one prompt per line), JSON lines, or OpenAI batch; - is stdin.",
            rich_help_panel=INPUT,
        ),
    ],
    requests: Annotated[
        int | None,
        typer.Option(
            "--num-requests", help="Only the first ones. [default: all]", rich_help_panel=INPUT
        ),
    ] = None,
    output_tokens: Annotated[
        int, typer.Option(help="For prompts that do not give their own.", rich_help_panel=LENGTHS)
    ] = 128,
    special_tokens: Annotated[
        bool,
        typer.Option(
            help="Add BOS and the like where the tokenizer does, as run does with text prompts.",
            rich_help_panel=INPUT,
        ),
    ] = True,
) -> None:
    """Prompts from a file, turned into ids, without a chat template; task_id and custom_id are kept."""
    workload = Text(
        path=input_file,
        output_tokens=output_tokens,
        requests=requests,
        special_tokens=special_tokens,
    )
    ctx.obj(workload)


KINDS: dict[str, Callable[..., None]] = {
    "token-norm-dist": normal,
    "token-unif-dist": uniform,
    "token-lognormal": lognormal,
    "empirical": empirical,
    "text": text,
}
