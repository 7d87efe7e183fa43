"""The command doctor: what can run here, and what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trt_dp.cli import launching
from trt_dp.cli import run_options as options
from trt_dp.errors import UsageError


def doctor(
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    load_seconds: Annotated[
        float, typer.Option(help="How long one engine or launcher may take to load.")
    ] = 120.0,
    engine_path: Annotated[
        str, typer.Option(help="Also check this engine or checkpoint against this machine.")
    ] = "",
    workers_per_gpu: Annotated[
        int, typer.Option(min=1, help="How many workers will share each GPU, for --engine-path.")
    ] = 1,
    launcher: options.Launcher = None,
    hosts: options.Hosts = None,
    launcher_set: options.LauncherSet = None,
    key_file: options.KeyFile = None,
    address: options.Address = None,
    port: options.Port = 0,
    host_seconds: options.HostSeconds = 60.0,
) -> None:
    """Show what is installed, what this machine has, and which engines and launchers can run here.

    Engines also say how an installed library differs from the version they were written for.
    With --hosts or --launcher, only who would run where. The exit status is 1 if no engine with a model can run, or
    if --engine-path would not.
    """
    import msgspec

    from trt_dp.display import doctor as display_doctor
    from trt_dp.doctor.examine import examine

    where = launching.Asking(
        launcher=launcher,
        hosts=hosts,
        launcher_set=launcher_set,
        key_file=key_file,
        address=address,
        port=port,
        host_seconds=host_seconds,
        engine_path=engine_path,
        workers_per_gpu=workers_per_gpu,
    )
    if where.asked:
        launching.show_places(where)
        return
    if engine_path and not Path(engine_path).is_dir():
        msg = f"{engine_path} does not exist: --engine-path names the folder of an engine or a checkpoint"
        raise UsageError(msg)
    found = examine(load_seconds, engine_path, workers_per_gpu)
    if json:
        typer.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
    else:
        typer.echo(display_doctor.told(found))
    if not found.healthy or (engine_path and found.advice):
        raise typer.Exit(1)
