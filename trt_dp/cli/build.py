"""The command build: a model becomes an engine."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from trt_dp.cli import recipes
from trt_dp.errors import UsageError
from trt_dp.system.signals import stoppable

SPELLINGS = {"token_normalize_func": lambda name: name.replace("_", "-")}
_NOT_IN_RECIPES = ("help", "recipe", "dry-run")
_EXTRA = "extra"


class Command(TyperCommand):
    """Keeps the words after `--` for the tool, and puts a recipe's options in as defaults."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Part the words before typer sees them: else the first after `--` would be the MODEL."""
        own, extra = _parted(args)
        recipe = _recipe_in(own)
        if recipe is not None:
            options = recipes.read(Path(recipe))
            from_recipe = _words(options.pop(_EXTRA, []), recipe)
            ctx.default_map = self._defaults(ctx, options, recipe)
            extra = from_recipe if extra is None else extra
        ctx.obj = extra or []
        return super().parse_args(ctx, own)

    def _defaults(self, ctx: Any, options: dict[str, Any], recipe: str) -> dict[str, Any]:
        names = recipes.known(self.get_params(ctx))
        names = {name: to for name, to in names.items() if name not in _NOT_IN_RECIPES}
        if unknown := options.keys() - names.keys():
            listed = ", ".join(sorted([*names, _EXTRA]))
            msg = f"{recipe}: {', '.join(sorted(unknown))}: not known; there are {listed}"
            raise UsageError(msg)
        return recipes.placed(options, names)


def build(
    ctx: typer.Context,
    model: Annotated[
        str | None,
        typer.Argument(
            help="A folder with a Hugging Face checkpoint, or its id. [default: a small demo model]"
        ),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(help="What to build for: cpu, trtllm. [default: what this machine can run]"),
    ] = None,
    output: Annotated[Path, typer.Option(help="The folder of the engine.")] = Path(
        "engines/default"
    ),
    recipe: Annotated[  # noqa: ARG001 (taken by Command, before options are parsed)
        Path | None, typer.Option(help="A TOML file of options; those given here win.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="trtllm: only print the commands that would be run.")
    ] = False,
    precision: Annotated[
        str | None,
        typer.Option(help="cpu: of the weights: f32, bf16, f16, int8 or int4. [default: f32]"),
    ] = None,
    via: Annotated[
        str | None,
        typer.Option(help="cpu: let another tool convert: optimum (for other architectures)."),
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="cpu: compare its answers with those of transformers and torch."
        ),
    ] = False,
    tp_size: Annotated[
        int | None, typer.Option(help="trtllm: GPUs that share each layer. [default: 1]")
    ] = None,
    pp_size: Annotated[
        int | None, typer.Option(help="trtllm: GPUs that share the layers out. [default: 1]")
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(help="trtllm: auto, float16, bfloat16 or float32. [default: auto]"),
    ] = None,
    quantization: Annotated[
        str | None,
        typer.Option(
            help="trtllm: fp8, int4_awq, int8_sq, nvfp4 (calibrated), int8, int4 (weights only)."
        ),
    ] = None,
    calib_dataset: Annotated[
        str | None,
        typer.Option(
            help="trtllm: what to calibrate with: a Hugging Face id, or a folder. [default: cnn_dailymail]"
        ),
    ] = None,
    from_checkpoint: Annotated[
        str | None,
        typer.Option(
            help="trtllm: a TensorRT-LLM checkpoint instead of a conversion; MODEL is its tokenizer's."
        ),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="trtllm: size the engine for the longest request in it.")
    ] = None,
    max_batch_size: Annotated[
        int | None, typer.Option(help="trtllm: requests at a time. [default: trtllm-build's]")
    ] = None,
    max_num_tokens: Annotated[
        int | None, typer.Option(help="trtllm: tokens at a time. [default: trtllm-build's]")
    ] = None,
    max_seq_len: Annotated[
        int | None, typer.Option(help="trtllm: input and output of one. [default: the model's]")
    ] = None,
    max_input_len: Annotated[
        int | None, typer.Option(help="trtllm: input of one. [default: trtllm-build's]")
    ] = None,
    max_beam_width: Annotated[
        int | None, typer.Option(help="trtllm: beams of one. [default: 1]")
    ] = None,
    kv_cache_type: Annotated[
        str | None, typer.Option(help="trtllm: paged, continuous or disabled. [default: paged]")
    ] = None,
    gemm_plugin: Annotated[
        str | None, typer.Option(help="trtllm: auto, a dtype, fp8, nvfp4 or disable.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="trtllm: ranks built at a time, each on a GPU. [default: 1]")
    ] = None,
) -> None:
    """Build an engine from a model, for trt-dp run; words after -- go to trtllm-build as they are.

    It is built beside its place and moved there when it is whole; trt_dp.json in it says where it comes from.
    """
    from trt_dp.builders import build as builder
    from trt_dp.display import build as display_build

    given = {
        "precision": precision,
        "via": via,
        "tp_size": tp_size,
        "pp_size": pp_size,
        "dtype": dtype,
        "quantization": quantization,
        "calib_dataset": calib_dataset,
        "from_checkpoint": from_checkpoint,
        "dataset": dataset,
        "max_batch_size": max_batch_size,
        "max_num_tokens": max_num_tokens,
        "max_seq_len": max_seq_len,
        "max_input_len": max_input_len,
        "max_beam_width": max_beam_width,
        "kv_cache_type": kv_cache_type,
        "gemm_plugin": gemm_plugin,
        "workers": workers,
        _EXTRA: ctx.obj or None,
    }
    options = {name: value for name, value in given.items() if value is not None}
    job = builder.Job(output, model, engine, options, check)
    with stoppable("no engine was built"), display_build.on_stderr() as watch:
        if dry_run:
            display_build.print_plan(builder.plan(job, watch))
        else:
            typer.echo(display_build.told(builder.build(job, watch)))


def _parted(args: list[str]) -> tuple[list[str], list[str] | None]:
    """The words before the first `--`, and those after it, if it is there."""
    if "--" not in args:
        return args, None
    at = args.index("--")
    return args[:at], args[at + 1 :]


def _recipe_in(args: list[str]) -> str | None:
    for position, word in enumerate(args):
        name, equals, value = word.partition("=")
        if name == "--recipe":
            return value if equals else "".join(args[position + 1 : position + 2])
    return None


def _words(extra: object, recipe: str) -> list[str]:
    if isinstance(extra, str):
        try:
            return shlex.split(extra)
        except ValueError as error:
            msg = f"{recipe}: extra is no line of words: {error}"
            raise UsageError(msg) from error
    if isinstance(extra, list) and all(isinstance(word, str) for word in extra):
        return extra
    msg = f"{recipe}: extra must be a string, or a list of strings"
    raise UsageError(msg)
