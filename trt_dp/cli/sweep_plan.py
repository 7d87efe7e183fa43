"""From the options of sweep to what is tried."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

from trt_dp.bench.measure import Plan
from trt_dp.bench.sweep import servers
from trt_dp.bench.sweep.folder import Asked, Folder
from trt_dp.bench.sweep.grid import Setting, that_fit
from trt_dp.placement.machine import look


def commands_of(words: Sequence[str], start_seconds: float) -> servers.Commands:
    """How servers start on this machine."""
    servers.check(words)
    return servers.Commands(words=list(words), machine=look(), start_seconds=start_seconds)


def fitting(wanted: Sequence[Setting], commands: servers.Commands) -> list[Setting]:
    """The settings that this machine has devices for: GPUs, or cores where there is none."""
    machine = commands.machine
    found = that_fit(wanted, len(machine.gpus) or len(machine.cores))
    if left := len(wanted) - len(found):
        kind = f"{len(machine.gpus)} GPUs" if machine.gpus else f"{len(machine.cores)} CPU cores"
        typer.echo(
            f"{left} of {len(wanted)} settings need more than {kind} and are skipped", err=True
        )
    return found


def folder_of(path: Path, plan: Plan, commands: servers.Commands, *, fresh: bool) -> Folder:
    """The folder of results, which must be of the same servers and load if it has some."""
    served = plan.served
    asked = Asked(
        servers=commands.words,
        load=plan.load,
        api=served.api,
        tokenizer=served.tokenizer,
        body=served.body,
    )
    return Folder(path, asked, fresh=fresh)
