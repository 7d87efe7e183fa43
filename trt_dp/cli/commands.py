"""The commands by name: the module of a command is imported once the command is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, cast

import typer
from typer.core import TyperGroup

from trt_dp.cli.help import SPELLINGS, Command
from trt_dp.cli.values import plainly

SHORT = {  # in the order in which a user meets them
    "prepare-dataset": "Make a synthetic dataset.",
    "build": "Build an engine from a model.",
    "calibrate": "Measure how long an engine's steps take, for plan.",
    "plan": "Show what a run will need and how long it will take.",
    "run": "Answer every request of a file.",
    "workflow": "Run a JSON workflow of prompts.",
    "serve": "Start servers of OpenAI's API on all devices.",
    "watch": "Show the progress of a run.",
    "report": "Print or compare the reports of runs.",
    "export": "Write the answers of a run in another format.",
    "bench": "Measure OpenAI-compatible servers.",
    "sweep": "Find the best setting of servers.",
    "doctor": "Show what is installed and what can run here.",
    "plugins": "List engines, builders, launchers and servers.",
    "agent": "Work on a run of another machine.",
}
_MODULES = {"prepare-dataset": "prepare"}  # the others lie in modules of their names


class Commands(TyperGroup):
    """The group of all commands; its help needs none of them."""

    def __init__(self, **settings: Any) -> None:
        """Take typer's settings, and the commands of the table."""
        super().__init__(**settings)
        self.commands = cast("Any", OnDemand())

    def get_params(self, ctx: Any) -> list[Any]:
        """The options of all commands."""
        return plainly(super().get_params(ctx))

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write each command with its line."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(SHORT.items()))


class OnDemand(Mapping[str, Any]):
    """All commands; each is made when it is first looked up."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        """The command of this name."""
        if name not in SHORT:
            raise KeyError(name)
        if name not in self._made:
            self._made[name] = _make(name)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        """The names, in the order of the help."""
        return iter(SHORT)

    def __len__(self) -> int:
        """How many there are."""
        return len(SHORT)


def _make(name: str) -> Any:
    """A module has its own typer app, or a function of the command's name."""
    module: Any = import_module(f"trt_dp.cli.{_MODULES.get(name, name)}")
    command: Any = typer.main.get_command(getattr(module, "app", None) or _app(name, module))
    command.name = name
    return command


def _app(name: str, module: Any) -> typer.Typer:
    """A command with its line in the list of commands and its examples."""
    app = typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False)
    app.command(
        name,
        cls=getattr(module, "Command", Command),
        context_settings=SPELLINGS,
        short_help=SHORT[name],
        epilog=getattr(module, "EXAMPLES", ""),
    )(getattr(module, name))
    return app
