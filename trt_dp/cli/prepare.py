"""The command prepare-dataset: the options that all kinds share.

They may be given before the kind, as in TensorRT-LLM's scripts, or after it.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Any

import typer
from msgspec import Struct

from trt_dp.cli import prepare_kinds
from trt_dp.cli.help import ARRIVALS, FORMAT, INPUT, OUTPUT, SPELLINGS, TOKENS, Command
from trt_dp.cli.prepare_group import Kinds
from trt_dp.errors import UsageError
from trt_dp.synthetic.workload import Prefixes, Workload
from trt_dp.system.safe_text import plain
from trt_dp.system.signals import stoppable

EXAMPLES = """
trt-dp prepare-dataset                                       # the default workload, where run looks for it
trt-dp prepare-dataset token-lognormal --num-requests 500    # long-tailed lengths
trt-dp prepare-dataset --tokenizer MODEL --format vllm       # text for `vllm bench serve`
trt-dp prepare-dataset --request-rate 8 --arrival gamma --burstiness 0.5
trt-dp prepare-dataset text --input prompts.txt --tokenizer MODEL
"""
_LEVELS = ("critical", "error", "warning", "info", "debug")


class Shared(Struct, frozen=True):
    """The options shared by all kinds: those of a Preparation by name, and where to write."""

    options: dict[str, Any]
    output: Path | None
    stdout: bool
    summary: bool


_SHARED = (
    "It also takes the options that `trt-dp prepare-dataset --help` shows, before or after its own."
)

app = typer.Typer(
    cls=Kinds,
    context_settings=SPELLINGS,
    rich_markup_mode=None,
    add_completion=False,
    epilog=EXAMPLES,
)
for name, kind in prepare_kinds.KINDS.items():
    app.command(name, cls=Command, context_settings=SPELLINGS, help=f"{kind.__doc__}\n\n{_SHARED}")(
        kind
    )


@app.callback()
def shared(
    ctx: typer.Context,
    recipe: Annotated[  # noqa: ARG001 (read by Kinds, before options are parsed)
        Path | None,
        typer.Option(help="A TOML file of options. The command line wins.", rich_help_panel=INPUT),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            help="A folder with a tokenizer.json, or a Hugging Face id. [default: the demo model's]",
            rich_help_panel=TOKENS,
        ),
    ] = None,
    trust_remote_code: Annotated[
        bool,
        typer.Option(
            "--trust-remote-code",
            help="Let a tokenizer run its own code.",
            rich_help_panel=TOKENS,
        ),
    ] = False,
    vocab_size: Annotated[
        int | None,
        typer.Option(
            help="Draw ids below this. [default: the demo model's size]", rich_help_panel=TOKENS
        ),
    ] = None,
    special_ids: Annotated[
        str,
        typer.Option(
            metavar="ID,ID...",
            help="With --vocab-size: ids that are never drawn.",
            rich_help_panel=TOKENS,
        ),
    ] = "",
    random_seed: Annotated[
        int, typer.Option(help="The same seed makes the same bytes.", rich_help_panel=TOKENS)
    ] = 420,
    prefix_groups: Annotated[
        int | None, typer.Option(help="Number of different prefixes.", rich_help_panel=TOKENS)
    ] = None,
    prefix_tokens: Annotated[
        int | None, typer.Option(help="Length of a prefix.", rich_help_panel=TOKENS)
    ] = None,
    request_rate: Annotated[
        float | None,
        typer.Option(
            help="Requests a second on average: each request gets an arrival time. [default: no times]",
            rich_help_panel=ARRIVALS,
        ),
    ] = None,
    arrival: Annotated[
        str | None,
        typer.Option(
            help="How arrivals are spread: poisson or gamma. [default: poisson]",
            rich_help_panel=ARRIVALS,
        ),
    ] = None,
    burstiness: Annotated[
        float | None,
        typer.Option(
            help="With gamma: below 1 makes bursts, above 1 an even flow. [default: 1]",
            rich_help_panel=ARRIVALS,
        ),
    ] = None,
    layout: Annotated[
        str,
        typer.Option(
            "--format",
            help="Ids: jsonl, json (NVIDIA's document), openai (batch of completions). Text of exact length: "
            "vllm, aiperf (which run does not read), sharegpt, openai-chat. All are single-turn.",
            rich_help_panel=FORMAT,
        ),
    ] = "jsonl",
    compat: Annotated[
        str | None,
        typer.Option(
            help="trtllm: draw exactly the lengths of TensorRT-LLM's generator.",
            rich_help_panel=FORMAT,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="The file to write. [default: datasets/ and a name made of the kind and its lengths]",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    stdout: Annotated[
        bool,
        typer.Option(
            "--stdout",
            help="Write to stdout, and the summary to stderr.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace another dataset.", rich_help_panel=OUTPUT)
    ] = False,
    log_level: Annotated[
        str,
        typer.Option(help="At warning or error, no summary is printed.", rich_help_panel=OUTPUT),
    ] = "info",
    task_id: Annotated[int, typer.Option(help="Only -1, because LoRA is not supported.")] = -1,
    rand_task_id: Annotated[
        tuple[int, int] | None, typer.Option(help="Refused, because LoRA is not supported.")
    ] = None,
    lora_dir: Annotated[
        str | None, typer.Option(help="Refused, because LoRA is not supported.")
    ] = None,
) -> None:
    """Make a dataset of synthetic requests or of texts. Without a kind: 3,000 requests of 2,048 tokens in, 128 out.

    Every request is a single turn; no format has multi-turn conversations.
    """
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
        "arrivals": _arrivals(request_rate, arrival, burstiness),
        "compat": compat,
        "force": force,
    }
    if stdout and output:
        _tell_unused_output(ctx, output)
    summary = _LEVELS.index(log_level.lower()) >= _LEVELS.index("info")
    asked = Shared(options=options, output=output, stdout=stdout, summary=summary)
    ctx.obj = functools.partial(_make, asked)


def _tell_unused_output(ctx: typer.Context, output: Path) -> None:
    """Refuse --output together with --stdout; where a recipe gives the file, say that it is not written."""
    source = ctx.get_parameter_source("output")
    if source is not None and source.name == "COMMANDLINE":
        msg = "--output and --stdout are both given: give one of them"
        raise UsageError(msg)
    typer.echo(f"--stdout: {plain(output)}, which the recipe names, is not written", err=True)


def _make(shared: Shared, workload: Workload) -> None:
    from trt_dp.display import prepare as display_prepare
    from trt_dp.synthetic.preparation import Preparation, default_output
    from trt_dp.synthetic.prepare import prepare

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


def _arrivals(rate: float | None, kind: str | None, burstiness: float | None) -> Any:
    """What --request-rate and the options beside it say, if it is given."""
    if rate is None:
        for option, given in (("--arrival", kind), ("--burstiness", burstiness)):
            if given is not None:
                msg = f"{option} goes with --request-rate: without a rate no request has an arrival time"
                raise UsageError(msg)
        return None
    from trt_dp.synthetic.arrivals import Arrivals

    return Arrivals(
        rate=rate, kind=kind or "poisson", burstiness=1.0 if burstiness is None else burstiness
    )


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
