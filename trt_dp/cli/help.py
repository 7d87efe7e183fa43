"""How help looks: options under headings that say what they are for, and examples exactly as they are written."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

from trt_dp.cli.values import plainly

SERVERS = "Servers"
INPUT, ENGINE, DEVICES, HOSTS, SAMPLING = "Input", "Engine", "Devices", "Hosts", "Sampling"
LENGTHS, TOKENS, ARRIVALS, FORMAT = "Lengths", "Tokens", "Arrivals", "Format"
ORDER, OUTPUT, RELIABILITY, OTHER = "Order", "Output", "Reliability", "Options"
NETWORK = "Network"
_ORDER = (
    *("Arguments", SERVERS, INPUT, LENGTHS, TOKENS, ARRIVALS, FORMAT),
    *(ENGINE, DEVICES, HOSTS, SAMPLING, ORDER, OUTPUT, RELIABILITY),
)

_ALIASES = {"output-dir": "output"}


def spelling(name: str) -> str:
    """The name of an option, however it is spelled: `--n_workers` is `--n-workers`, `--output` is `--output`."""
    hyphens = name.replace("_", "-")
    return _ALIASES.get(hyphens, hyphens)


SPELLINGS = {"token_normalize_func": spelling, "help_option_names": ["-h", "--help"]}


class Command(TyperCommand):
    """A command whose help groups its options and ends with examples."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Its options and arguments."""
        return plainly(super().get_params(ctx))

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write one section for each heading."""
        write_options(self, ctx, formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples line by line."""
        del ctx
        write_examples(self.epilog, formatter)


def heading(param: Any) -> str:
    """The heading of an option."""
    if param.param_type_name == "argument":
        return "Arguments"
    return getattr(param, "rich_help_panel", None) or OTHER


def write_options(command: Any, ctx: Any, formatter: Any) -> None:
    """Write the options of a command or a group, one section for each heading."""
    sections: dict[str, list[tuple[str, str]]] = {}
    for param in command.get_params(ctx):
        record = param.get_help_record(ctx)
        if record is not None:
            sections.setdefault(heading(param), []).append(record)
    for title in sorted(sections, key=_place):
        with formatter.section(title):
            formatter.write_dl(sections[title])


def write_examples(epilog: str | None, formatter: Any) -> None:
    """Write examples as they are, without wrapping them."""
    if epilog:
        with formatter.section("Examples"):
            for line in epilog.strip().splitlines():
                formatter.write(f"{'':{formatter.current_indent}}{line.strip()}\n")


def _place(title: str) -> tuple[int, str]:
    known = title in _ORDER
    return (_ORDER.index(title) if known else len(_ORDER) + (title == OTHER), title)
