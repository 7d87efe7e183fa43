"""The command build: a model becomes an engine."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from trt_dp.cli import key_values, recipes
from trt_dp.cli.help import write_examples
from trt_dp.cli.values import plainly
from trt_dp.errors import UsageError
from trt_dp.system.signals import stoppable

EXAMPLES = """
trt-dp build                                     # a small random model, for what this machine can run
trt-dp build MODEL --output engines/mine         # a folder with a checkpoint, or a Hugging Face id
trt-dp build MODEL --engine cpu --precision int8
trt-dp build MODEL --engine trtllm --tp-size 2 --dry-run
"""
_EXTRA = "extra"


class Command(TyperCommand):
    """Adds the builders' flags, keeps the words after `--` for the builder, and takes defaults from a recipe."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The command's own parameters, and a flag for each option of each builder."""
        from trt_dp.cli.builder_flags import merged

        own = super().get_params(ctx)
        return plainly([*own, *merged({str(parameter.name) for parameter in own})])

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Split off the words after `--` before typer sees them: it would take the first one for the MODEL."""
        own, extra = _parted(args)
        recipe = _recipe_in(own)
        if recipe is not None:
            options = recipes.read(Path(recipe))
            from_recipe = _words(options.pop(_EXTRA, []), recipe)
            params = self.get_params(ctx)
            recipes.check(Path(recipe), options, params, (_EXTRA,))
            ctx.default_map = recipes.placed(options, recipes.known(params))
            extra = from_recipe if extra is None else extra
        ctx.obj = {_EXTRA: extra} if extra else {}
        return super().parse_args(ctx, own)

    def invoke(self, ctx: Any) -> Any:
        """Hand over the builder's options as `ctx.obj`: the function `build` does not know their names."""
        own = {parameter.name for parameter in self.params}
        for name in [name for name in ctx.params if name not in own]:
            value = ctx.params.pop(name)
            if value is not None:
                ctx.obj[name] = value
        return super().invoke(ctx)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """The command's own options, then each builder's under its name."""
        from trt_dp.cli.builder_flags import by_builder

        own = super().get_params(ctx)
        arguments = [one for one in own if one.param_type_name == "argument"]
        _section(ctx, formatter, "Arguments", arguments)
        _section(ctx, formatter, "Options", [one for one in own if one not in arguments])
        for name, parameters in by_builder().items():
            _section(ctx, formatter, f"Options for {name}", parameters)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples line by line."""
        del ctx
        write_examples(self.epilog, formatter)


def build(
    ctx: typer.Context,
    model: Annotated[
        str | None,
        typer.Argument(
            help="A folder with a Hugging Face checkpoint, its id, or a GGUF file. "
            "[default: a small random model]"
        ),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(help="Engine to build for. [default: the best that can be built here]"),
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for the engine.")] = Path("engines/default"),
    recipe: Annotated[  # noqa: ARG001 (taken by Command, before options are parsed)
        Path | None,
        typer.Option(help="TOML file with options. Options on the command line win."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Option of the builder; repeatable."),
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Build the demo model, SmolLM2-135M-Instruct.")
    ] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Compare the engine with another implementation, if the builder can."
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Only print the commands of the build, if the builder runs any."
        ),
    ] = False,
) -> None:
    """Build an engine from a model, for trt-dp run. Words after -- go to the builder's tool unchanged.

    The engine is moved to its place when it is complete; trt_dp.json in it says where it comes from.
    """
    from trt_dp.builders import build as builder
    from trt_dp.display import build as display_build

    options = ctx.obj | key_values.parse(set_)
    wanted = builder.Build(
        output=output, model=model, engine=engine, options=options, check=check, demo=demo
    )
    with stoppable("no engine was built"), display_build.on_stderr() as watch:
        if dry_run:
            display_build.print_plan(builder.plan(wanted))
        else:
            typer.echo(display_build.told(builder.build(wanted, watch)))


def _section(ctx: Any, formatter: Any, title: str, parameters: list[Any]) -> None:
    records = [one.get_help_record(ctx) for one in parameters]
    if shown := [record for record in records if record]:
        with formatter.section(title):
            formatter.write_dl(shown)


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
            msg = f"{recipe}: `extra` cannot be split into words: {error}"
            raise UsageError(msg) from error
    if isinstance(extra, list) and all(isinstance(word, str) for word in extra):
        return extra
    msg = f"{recipe}: `extra` must be a string, or a list of strings"
    raise UsageError(msg)
