"""The command doctor: what can run here, and what is missing."""

from __future__ import annotations

from typing import Annotated

import typer


def doctor(
    json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
    load_seconds: Annotated[
        float, typer.Option(help="How long loading one engine or library may take.")
    ] = 120.0,
) -> None:
    """Say what is installed, what this machine has, and which engines and launchers can run here.

    An installed TensorRT-LLM is compared with what its source says of the names that trt-dp uses.
    Exit status 1 where no engine with a model can run.
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
