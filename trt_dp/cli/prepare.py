"""The command prepare-dataset: its kinds, the options they share, and recipes that hold both.

Shared options may stand before the kind, as in TensorRT-LLM's scripts, or after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from trt_dp.cli import recipes
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
from trt_dp.system.signals import stoppable

_DEFAULT = "token-norm-dist"
_THEIRS = ("dataset", "real-dataset")
_SPELLINGS = {"token_normalize_func": lambda name: name.replace("_", "-")}
_LEVELS = ("critical", "error", "warning", "info", "debug")


class Kinds(TyperGroup):
    """Kinds of dataset as sub-commands; without one it is the seed's workload, or the recipe's."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Bring shared options to the front, and put a recipe's in as defaults."""
        shared, rest = _sorted_out(self.get_params(ctx), args)
        kind = rest[0] if rest and not rest[0].startswith("-") else None
        if kind in _THEIRS:
            msg = f"`{kind}` would fetch a dataset, which this never does: save it as JSON lines, and use `text`"
            raise UsageError(msg)
        recipe = _value(shared, "--recipe")
        if recipe is not None:
            kind = self._take_recipe(ctx, Path(recipe), kind)
        if not rest or rest[0].startswith("-"):
            rest = rest if rest[:1] in (["-h"], ["--help"]) else [kind or _DEFAULT, *rest]
        return super().parse_args(ctx, shared + rest)

    def _take_recipe(self, ctx: Any, path: Path, kind: str | None) -> str:
        options = recipes.read(path)
        named = str(options.pop("kind", kind or _DEFAULT))
        if named not in self.commands or kind not in (None, named):
            kinds = ", ".join(self.commands)
            msg = f"{path} is a recipe of the kind {named}, and {kind or 'that'} is not: there are {kinds}"
            raise UsageError(msg)
        own = recipes.known(self.commands[named].get_params(ctx))
        shared = recipes.known(self.get_params(ctx))
        ctx.default_map = {named: recipes.placed(options, own)} | recipes.placed(options, shared)
        unknown = options.keys() - own.keys() - shared.keys()
        if unknown:
            known = ", ".join(sorted((own.keys() | shared.keys()) - {"help", "recipe"}))
            msg = f"{path}: {', '.join(sorted(unknown))}: not known; there are kind, {known}"
            raise UsageError(msg)
        return named


app = typer.Typer(
    cls=Kinds,
    context_settings=_SPELLINGS | {"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    add_completion=False,
)


@app.callback()
def shared(
    ctx: typer.Context,
    recipe: Annotated[  # noqa: ARG001 (taken by Kinds, before options are parsed)
        Path | None, typer.Option(help="A TOML file of options; those given here win.")
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="A folder with a tokenizer, or a Hugging Face id.")
    ] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Let a tokenizer run code of its own.")
    ] = False,
    vocab_size: Annotated[
        int | None, typer.Option(help="Draw ids below this. [default: the demo model's]")
    ] = None,
    special_ids: Annotated[
        str, typer.Option(metavar="ID,ID...", help="With --vocab-size: ids never drawn.")
    ] = "",
    random_seed: Annotated[int, typer.Option(help="The same seed makes the same bytes.")] = 420,
    output: Annotated[Path, typer.Option(help="The file to write; its folder is made.")] = Path(
        "datasets/synthetic_2048_128.jsonl"
    ),
    stdout: Annotated[
        bool, typer.Option("--stdout", help="Write to stdout instead, and the summary to stderr.")
    ] = False,
    layout: Annotated[
        str,
        typer.Option("--format", help="jsonl, json (NVIDIA's document) or openai (batch lines)."),
    ] = "jsonl",
    compat: Annotated[
        str | None, typer.Option(help="trtllm: the very lengths that its generator draws.")
    ] = None,
    prefix_groups: Annotated[int | None, typer.Option(help="How many shared prefixes.")] = None,
    prefix_tokens: Annotated[int | None, typer.Option(help="The length of a prefix.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace another dataset.")] = False,
    log_level: Annotated[str, typer.Option(help="warning and error: print no summary.")] = "info",
    task_id: Annotated[int, typer.Option(help="-1 only: there are no LoRA tasks.")] = -1,
    rand_task_id: Annotated[
        tuple[int, int] | None, typer.Option(help="Refused: there are no LoRA tasks.")
    ] = None,
    lora_dir: Annotated[
        str | None, typer.Option(help="Refused: there are no LoRA adapters.")
    ] = None,
) -> None:
    """Make a dataset of synthetic requests, or of texts; with no kind, 3,000 requests of 2,048 in and 128 out."""
    _refuse_lora(task_id, rand_task_id, lora_dir)
    if log_level.lower() not in _LEVELS:
        msg = f"--log-level {log_level} is not known: there are {', '.join(_LEVELS)}"
        raise UsageError(msg)
    options = {
        "output": None if stdout else output,
        "seed": random_seed,
        "layout": layout,
        "tokenizer": tokenizer,
        "trust_remote_code": trust_remote_code,
        "vocab_size": vocab_size,
        "special_ids": _special(special_ids),
        "compat": compat,
        "force": force,
    }
    talkative = _LEVELS.index(log_level.lower()) >= _LEVELS.index("info")
    ctx.obj = (options, (prefix_groups, prefix_tokens), talkative)


_Requests = Annotated[int, typer.Option("--num-requests", help="How many requests.")]
_Count = Annotated[int, typer.Option(help="In tokens.")]
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
    _make(ctx, Normal(requests, input_mean, input_stdev, output_mean, output_stdev))


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
    _make(ctx, Uniform(requests, input_min, input_max, output_min, output_max))


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
    """A long tail: lengths from log-normal distributions; a longer one is cut to the cap."""
    inputs = (input_median, input_sigma, input_cap)
    _make(ctx, Lognormal(requests, *inputs, output_median, output_sigma, output_cap))


@app.command()
def empirical(
    ctx: typer.Context,
    lengths: Annotated[
        Path, typer.Option(help="A dataset, or a CSV file of input and output lengths.")
    ],
    requests: _Requests = 3000,
    apart: Annotated[
        bool, typer.Option("--apart", help="Draw inputs and outputs apart, not as pairs.")
    ] = False,
) -> None:
    """Lengths drawn from those of another dataset or a CSV file; pairs stay together."""
    _make(ctx, Empirical(requests, lengths, apart))


@app.command()
def text(
    ctx: typer.Context,
    input_file: Annotated[
        Path, typer.Option("--input", help="Text (a prompt a line), JSON lines, or OpenAI batch.")
    ],
    requests: Annotated[
        int | None, typer.Option("--num-requests", help="Only the first so many. [default: all]")
    ] = None,
    output_tokens: Annotated[
        int, typer.Option(help="For a prompt that does not say its own.")
    ] = 128,
) -> None:
    """Prompts from a file, turned into ids without special tokens or chat template."""
    _make(ctx, Text(input_file, output_tokens, requests))


def _make(ctx: typer.Context, workload: Workload) -> None:
    from trt_dp.display import prepare as display_prepare
    from trt_dp.synthetic.prepare import Job, prepare

    options, (groups, tokens), talkative = ctx.obj
    job = Job(workload, prefixes=_prefixes(groups, tokens), **options)
    with stoppable("no dataset was written"), display_prepare.on_stderr() as progress:
        outcome = prepare(job, progress)
    if talkative:
        typer.echo(display_prepare.told(job, outcome), err=job.output is None)


def _sorted_out(params: Sequence[Any], args: list[str]) -> tuple[list[str], list[str]]:
    """The shared options with their values, and everything else."""
    takes = {
        name: 0 if param.is_flag else param.nargs
        for param in params
        if param.name != "help"
        for name in param.opts
    }
    shared, rest, left = [], [], iter(args)
    for given in left:
        name, equals, value = given.partition("=")
        name = name.replace("_", "-") if name.startswith("--") else name
        if name in takes:
            shared.append(name + equals + value)
            shared += [next(left, "") for _ in range(0 if equals else takes[name])]
        else:
            rest.append(given)
    return shared, rest


def _value(shared: list[str], option: str) -> str | None:
    for position, given in enumerate(shared):
        name, equals, value = given.partition("=")
        if name == option:
            return value if equals else shared[position + 1]
    return None


def _special(given: str) -> frozenset[int]:
    try:
        return frozenset(int(token) for token in given.split(",") if token.strip())
    except ValueError as error:
        msg = f"--special-ids {given}: give ids with commas between them"
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
