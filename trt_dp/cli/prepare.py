"""The command prepare-dataset: its kinds, the options they share, and recipes for both.

Shared options may be given before the kind, as in TensorRT-LLM's scripts, or after it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from msgspec import Struct

from trt_dp.cli.help import SPELLINGS
from trt_dp.cli.kinds import Kinds
from trt_dp.errors import UsageError
from trt_dp.synthetic.workload import (
    Empirical,
    Lognormal,
    Normal,
    Prefixes,
    Text,
    Uniform,
    Workload,
)
from trt_dp.system.safe_text import plain
from trt_dp.system.signals import stoppable

_LEVELS = ("critical", "error", "warning", "info", "debug")


class _Shared(Struct, frozen=True):
    """The options shared by all kinds: those of a Preparation by name, and where to write."""

    options: dict[str, Any]
    output: Path | None
    stdout: bool
    summary: bool


app = typer.Typer(
    cls=Kinds,
    context_settings=SPELLINGS,
    rich_markup_mode=None,
    add_completion=False,
)


@app.callback()
def shared(
    ctx: typer.Context,
    recipe: Annotated[  # noqa: ARG001 (read by Kinds, before options are parsed)
        Path | None, typer.Option(help="A TOML file of options. The command line wins.")
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="A folder with a tokenizer.json, or a Hugging Face id.")
    ] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Let a tokenizer run its own code.")
    ] = False,
    vocab_size: Annotated[
        int | None, typer.Option(help="Draw ids below this. [default: the demo model's size]")
    ] = None,
    special_ids: Annotated[
        str, typer.Option(metavar="ID,ID...", help="With --vocab-size: ids that are never drawn.")
    ] = "",
    random_seed: Annotated[int, typer.Option(help="The same seed makes the same bytes.")] = 420,
    output: Annotated[
        Path | None,
        typer.Option(
            help="The file to write. [default: datasets/ and a name made of the kind and its lengths]"
        ),
    ] = None,
    stdout: Annotated[
        bool, typer.Option("--stdout", help="Write to stdout, and the summary to stderr.")
    ] = False,
    layout: Annotated[
        str,
        typer.Option(
            "--format",
            help="jsonl, json (NVIDIA's document) or openai (batch lines, which run does not read yet).",
        ),
    ] = "jsonl",
    compat: Annotated[
        str | None,
        typer.Option(help="trtllm: draw exactly the lengths of TensorRT-LLM's generator."),
    ] = None,
    prefix_groups: Annotated[int | None, typer.Option(help="Number of different prefixes.")] = None,
    prefix_tokens: Annotated[int | None, typer.Option(help="Length of a prefix.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace another dataset.")] = False,
    log_level: Annotated[
        str, typer.Option(help="At warning or error, no summary is printed.")
    ] = "info",
    task_id: Annotated[int, typer.Option(help="Only -1, because LoRA is not supported.")] = -1,
    rand_task_id: Annotated[
        tuple[int, int] | None, typer.Option(help="Refused, because LoRA is not supported.")
    ] = None,
    lora_dir: Annotated[
        str | None, typer.Option(help="Refused, because LoRA is not supported.")
    ] = None,
) -> None:
    """Make a dataset of synthetic requests or of texts. Without a kind: 3,000 requests of 2,048 tokens in, 128 out."""
    _refuse_lora(task_id, rand_task_id, lora_dir)
    if log_level.lower() not in _LEVELS:
        msg = f"--log-level {log_level} is not known; the levels are {', '.join(_LEVELS)}"
        raise UsageError(msg)
    options = {
        "seed": random_seed,
        "layout": layout,
        "tokenizer": tokenizer,
        "trust_remote_code": trust_remote_code,
        "vocab_size": vocab_size,
        "special_ids": _special(special_ids),
        "prefixes": _prefixes(prefix_groups, prefix_tokens),
        "compat": compat,
        "force": force,
    }
    if stdout and output:
        _tell_unused_output(ctx, output)
    summary = _LEVELS.index(log_level.lower()) >= _LEVELS.index("info")
    ctx.obj = _Shared(options=options, output=output, stdout=stdout, summary=summary)


def _tell_unused_output(ctx: typer.Context, output: Path) -> None:
    """Refuse --output together with --stdout; where a recipe gives the file, say that it is not written."""
    source = ctx.get_parameter_source("output")
    if source is not None and source.name == "COMMANDLINE":
        msg = "--output and --stdout are both given: give one of them"
        raise UsageError(msg)
    typer.echo(f"--stdout: {plain(output)}, which the recipe names, is not written", err=True)


_Requests = Annotated[int, typer.Option("--num-requests", help="Number of requests.")]
_Count = Annotated[int, typer.Option(help="In tokens.")]
_Column = Annotated[str | None, typer.Option(metavar="TITLE", help="Of a CSV file.")]
_Sigma = Annotated[float, typer.Option(help="The standard deviation of the logarithm.")]


@app.command("token-norm-dist")
def normal(
    ctx: typer.Context,
    requests: _Requests = 3000,
    input_mean: _Count = 2048,
    input_stdev: _Count = 0,
    output_mean: _Count = 128,
    output_stdev: _Count = 0,
) -> None:
    """Lengths from normal distributions, at least 1."""
    workload = Normal(
        requests=requests,
        input_mean=input_mean,
        input_stdev=input_stdev,
        output_mean=output_mean,
        output_stdev=output_stdev,
    )
    _make(ctx, workload)


@app.command("token-unif-dist")
def uniform(
    ctx: typer.Context,
    input_min: _Count,
    input_max: _Count,
    output_min: _Count,
    output_max: _Count,
    requests: _Requests = 3000,
) -> None:
    """Lengths from uniform distributions, bounds included."""
    workload = Uniform(
        requests=requests,
        input_min=input_min,
        input_max=input_max,
        output_min=output_min,
        output_max=output_max,
    )
    _make(ctx, workload)


@app.command("token-lognormal")
def lognormal(
    ctx: typer.Context,
    requests: _Requests = 3000,
    input_median: _Count = 1024,
    input_sigma: _Sigma = 1.0,
    input_cap: _Count = 32768,
    output_median: _Count = 128,
    output_sigma: _Sigma = 1.0,
    output_cap: _Count = 4096,
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
    _make(ctx, workload)


@app.command()
def empirical(
    ctx: typer.Context,
    lengths: Annotated[
        Path, typer.Option(help="A dataset, or a CSV file with columns of both lengths.")
    ],
    requests: _Requests = 3000,
    apart: Annotated[
        bool, typer.Option("--apart", help="Draw inputs and outputs separately, not as pairs.")
    ] = False,
    input_column: _Column = None,
    output_column: _Column = None,
) -> None:
    """Lengths drawn from another dataset or a CSV file; pairs stay together."""
    workload = Empirical(
        requests=requests,
        path=lengths,
        apart=apart,
        input_column=input_column,
        output_column=output_column,
    )
    _make(ctx, workload)


@app.command()
def text(
    ctx: typer.Context,
    input_file: Annotated[
        Path,
        typer.Option(
            "--input", help="Text (one prompt per line), JSON lines, or OpenAI batch; - is stdin."
        ),
    ],
    requests: Annotated[
        int | None, typer.Option("--num-requests", help="Only the first ones. [default: all]")
    ] = None,
    output_tokens: Annotated[
        int, typer.Option(help="For prompts that do not give their own.")
    ] = 128,
    special_tokens: Annotated[
        bool,
        typer.Option(
            help="Add BOS and the like where the tokenizer does, as run does with text prompts."
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
    _make(ctx, workload)


def _make(ctx: typer.Context, workload: Workload) -> None:
    from trt_dp.display import prepare as display_prepare
    from trt_dp.synthetic.prepare import Preparation, default_output, prepare

    shared: _Shared = ctx.obj
    output = shared.output or default_output(workload, shared.options["layout"])
    asked = Preparation(workload, output=None if shared.stdout else output, **shared.options)
    with stoppable("no dataset was written"), display_prepare.on_stderr() as progress:
        made = prepare(asked, progress)
    if shared.summary:
        typer.echo(display_prepare.told(asked, made), err=shared.stdout)


def _special(given: str) -> frozenset[int]:
    try:
        return frozenset(int(token) for token in given.split(",") if token.strip())
    except ValueError as error:
        msg = f"--special-ids {given}: give ids separated by commas"
        raise UsageError(msg) from error


def _prefixes(groups: int | None, tokens: int | None) -> Prefixes | None:
    if groups is None and tokens is None:
        return None
    return Prefixes(groups or 0, tokens or 0)


def _refuse_lora(task_id: int, rand_task_id: object, lora_dir: object) -> None:
    given = {
        "--task-id": task_id != -1,
        "--rand-task-id": rand_task_id is not None,
        "--lora-dir": lora_dir is not None,
    }
    for option, asked in given.items():
        if asked:
            msg = f"{option} is not supported: no engine here applies LoRA adapters"
            raise UsageError(msg)
