"""From the options of sweep to what is tried."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer
from msgspec import Struct

from trt_dp.bench.measure import Plan
from trt_dp.bench.sweep import servers
from trt_dp.bench.sweep.folder import Asked, Folder
from trt_dp.bench.sweep.grid import Setting
from trt_dp.errors import UsageError
from trt_dp.placement.machine import look
from trt_dp.serving.layout import Asked as AskedServers
from trt_dp.serving.servers import Wish


class Named(Struct, frozen=True, kw_only=True):
    """The options that say which servers to start."""

    server: str | None
    model_path: str | None
    engine: str | None
    options: dict[str, str]
    program: str | None
    context: int | None
    neuron_cores: str | None
    words: tuple[str, ...]


def kind_of(named: Named) -> servers.Kind:
    """Servers by name, or by the command that starts one."""
    if named.server is not None:
        return servers.Known(asked=_asked(named), machine=look())
    given = (named.model_path, named.engine, named.program, named.context, named.options or None)
    if any(one is not None for one in given):
        msg = "MODEL, --engine, --set, --program and --context need --server"
        raise UsageError(msg)
    servers.check(named.words)
    return servers.Commands(
        command=list(named.words), machine=look(), neuron_cores=named.neuron_cores
    )


def _asked(named: Named) -> AskedServers:
    wish = Wish(
        model=named.model_path,
        program=named.program,
        context=named.context,
        engine=named.engine,
        options=named.options,
        words=named.words,
    )
    return AskedServers(
        server=named.server or "", wish=wish, folder=Path(), neuron_cores=named.neuron_cores
    )


def fitting(wanted: Sequence[Setting], kind: servers.Kind, folder: Path) -> list[Setting]:
    """The settings that there are devices for; refused if there are for none."""
    found = [one for one in wanted if servers.fits(kind, one, folder)]
    if not found:
        least = min(one.devices for one in wanted)
        msg = f"no setting fits: the smallest needs {least} device{'s' * (least > 1)}, more than there are"
        raise UsageError(msg)
    if left := len(wanted) - len(found):
        typer.echo(f"{left} of {len(wanted)} settings need more devices and are skipped", err=True)
    return found


def folder_of(path: Path, plan: Plan, kind: servers.Kind, *, fresh: bool) -> Folder:
    """The folder of results, which must be of the same servers and load if it has some."""
    served = plan.served
    asked = Asked(
        servers=kind.words(),
        load=plan.load,
        api=served.api,
        tokenizer=served.tokenizer,
        body=served.body,
    )
    return Folder(path, asked, fresh=fresh)
