"""The flags of `trt-dp build` that builders declare: made from their option structs when the command is parsed."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, Optional

import typer

from trt_dp.builders.choose import installed
from trt_dp.builders.options import Option, flag, options_of


@functools.cache
def by_builder() -> dict[str, list[Any]]:
    """Each builder's flags, as parameters of a command."""
    return {name: _parameters(options) for name, options in _declared().items()}


@functools.cache
def _declared() -> dict[str, list[Option]]:
    """Each builder's options; to find and import the builders takes most of the time of a --help."""
    return {name: options_of(builder) for name, builder in installed().items()}


def merged(taken: set[str]) -> list[Any]:
    """Every flag once: builders may share a flag, and the command's own flags (taken) come first.

    Values of a flag that builders declare with different types stay text until the builder is chosen.
    """
    options: dict[str, Option] = {}
    for declared in _declared().values():
        for option in declared:
            known = options.setdefault(option.name, option)
            if known.kind is not option.kind:
                options[option.name] = Option(option.name, str, option.help)
    return _parameters([one for one in options.values() if one.name not in taken])


def _parameters(options: list[Option]) -> list[Any]:
    """Let typer make them, from a function that has them as its arguments."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command()(_function_of(options))
    made = typer.main.get_command(app)
    return [parameter for parameter in made.params if parameter.name != "help"]


def _function_of(options: list[Option]) -> Callable[..., None]:
    def function(**_: object) -> None:
        """Never called."""

    keyword = inspect.Parameter.KEYWORD_ONLY
    types = {one.name: _annotation(one) for one in options}
    function.__annotations__ = types
    function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, keyword, default=None, annotation=types[name]) for name in types]
    )
    return function


def _annotation(option: Option) -> Any:
    return Annotated[
        Optional[option.kind],  # noqa: UP045 - `|` does not take a type from a variable on 3.10
        typer.Option(flag(option.name), help=option.help, show_default=False),
    ]
