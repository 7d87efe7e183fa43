"""The command doctor: what can run here, and what is missing."""

from __future__ import annotations

from typing import Annotated

import typer


def doctor(
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    load_seconds: Annotated[
        float, typer.Option(help="How long one engine or launcher may take to load.")
    ] = 120.0,
) -> None:
    """Show what is installed, what this machine has, and which engines and launchers can run here.

    Engines also say how an installed library differs from the version they were written for.
    The exit status is 1 if no engine with a model can run.
    """
    import msgspec

    from trt_dp.display import doctor as display_doctor
    from trt_dp.doctor.examine import examine

    found = examine(load_seconds)
    if json:
        typer.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
    else:
        typer.echo(display_doctor.told(found))
    if not found.healthy:
        raise typer.Exit(1)
