"""The launcher that a user asks for, and its options: --hosts and --key-file are spellings of --launcher-set."""

from __future__ import annotations

from typing import TypedDict

from trt_dp.cli import key_values


class Launching(TypedDict):
    """The launcher and its options."""

    launcher: str
    launcher_options: dict[str, str]


def settings(
    launcher: str | None, hosts: str | None, key_file: str | None, more: list[str] | None
) -> Launching:
    """What the flags ask for together."""
    named = {"hosts": hosts, "key_file": key_file}
    given = {name: value for name, value in named.items() if value is not None}
    default = "by-hand" if key_file else "ssh" if hosts else "local"
    return Launching(
        launcher=launcher or default,
        launcher_options={**given, **key_values.parse(more, "--launcher-set")},
    )
