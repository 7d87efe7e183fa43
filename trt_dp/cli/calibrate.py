"""The command calibrate: how long an engine's steps take on this machine, for trt-dp plan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trt_dp.cli import key_values
from trt_dp.cli import run_options as options
from trt_dp.cli.help import ENGINE, OUTPUT

if TYPE_CHECKING:
    from trt_dp.simulate.calibrate import Calibration, Trial

EXAMPLES = """
trt-dp calibrate                                      # the engine in engines/default
trt-dp calibrate --engine-path engines/mine --n-gpus 2 --output mine-tp2.json
trt-dp plan my.jsonl --calibration mine-tp2.json      # how long will it take?
"""


def calibrate(
    engine_path: options.EnginePath = None,
    engine: options.Engine = None,
    set_: options.Set = None,
    n_workers: options.NWorkers = None,
    n_gpus: options.NGpus = None,
    seconds: Annotated[
        float,
        typer.Option(
            min=1,
            help="Skip measurements that would take longer than this in all.",
            rich_help_panel=ENGINE,
        ),
    ] = 60.0,
    output: Annotated[
        Path, typer.Option(help="File for the result.", rich_help_panel=OUTPUT)
    ] = Path("calibration.json"),
) -> None:
    """Measure how long the steps of an engine take here, so that trt-dp plan can predict runs.

    The engine is loaded as one worker of a run with these devices would load it.
    """
    import msgspec

    from trt_dp import api
    from trt_dp.system import safe_files

    found = api.calibrate(
        engine=engine,
        engine_path=engine_path,
        options=key_values.parse(set_),
        workers=n_workers,
        gpus_per_worker=n_gpus,
        seconds=seconds,
        say=_show,
    )
    with safe_files.atomic_write(output) as file:
        file.write(msgspec.json.format(msgspec.json.encode(found)) + b"\n")
    _print(found)
    typer.echo(f"calibration: {output}")


def _show(trial: Trial) -> None:
    typer.echo(
        f"{trial.requests} x {trial.input_tokens} in, {trial.output_tokens} out: {trial.seconds:.3f} s",
        err=True,
    )


def _print(found: Calibration) -> None:
    model = found.model
    typer.echo(f"a step: {model.overhead * 1e3:.3f} ms, and for each request in the batch "
               f"{model.per_sequence * 1e6:,.1f} us")  # fmt: skip
    typer.echo(f"prompts: {model.per_prefill_token * 1e6:,.2f} us a token")
    typer.echo(f"KV cache: {model.per_kv_token * 1e9:,.2f} ns for each token that a step reads")
    typer.echo(f"full batch: {found.slots} requests")
    typer.echo(f"the model's error: median {found.median_error:.1%}, worst {found.worst_error:.1%}")
