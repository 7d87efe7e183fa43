"""prepare-dataset as a group of kinds: shared options anywhere, recipes, and help under headings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from typer.core import TyperGroup

from trt_dp.cli import recipes
from trt_dp.cli.help import write_examples, write_options
from trt_dp.cli.values import plainly
from trt_dp.errors import UsageError

_DEFAULT = "token-norm-dist"
_THEIRS = ("dataset", "real-dataset")


class Kinds(TyperGroup):
    """Kinds of dataset as sub-commands; without one it is the recipe's, or the default workload."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The shared options."""
        return plainly(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Move shared options to the front, and take a recipe's options as defaults."""
        shared, rest = _sorted_out(self.get_params(ctx), args)
        kind = rest[0] if rest and not rest[0].startswith("-") else None
        if kind in _THEIRS:
            msg = f"`{kind}` would download a dataset, which trt-dp never does: save it as JSON lines and use `text`"
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
            given = f", not {kind}" if kind else ""
            msg = f"{path} is a recipe for {named}{given}; the kinds are {kinds}"
            raise UsageError(msg)
        own = self.commands[named].get_params(ctx)
        shared = self.get_params(ctx)
        recipes.check(path, options, [*own, *shared], ("kind",))
        ctx.default_map = {named: recipes.placed(options, recipes.known(own))}
        ctx.default_map |= recipes.placed(options, recipes.known(shared))
        return named

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write one section for each heading, then the kinds."""
        write_options(self, ctx, formatter)
        self.format_commands(ctx, formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples line by line."""
        del ctx
        write_examples(self.epilog, formatter)


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
