"""The command plan: what a run will need and how long it will take, before anything is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trt_dp.cli import launching
from trt_dp.cli import run_options as options
from trt_dp.cli.help import DEVICES, ENGINE, INPUT, OUTPUT

if TYPE_CHECKING:
    from trt_dp.dataset.index import Index
    from trt_dp.simulate.forecast import Forecast

EXAMPLES = """
trt-dp plan --request-path my.jsonl                                            # requests, tokens, disk
trt-dp plan --request-path my.jsonl --step-ms 6 --sequence-us 22 --slots 256   # and how long it will take
trt-dp plan --request-path my.jsonl --step-ms 6 --sequence-us 22 --slots 256 --price-per-hour 4
trt-dp plan --request-path my.jsonl --hosts a,b                                # and who would run where
"""

_LINE_BYTES, _TOKEN_BYTES, _INDEX_BYTES = 220, 7, 81
_COPIES = 2  # the journal and the results


def plan(
    request_path: Annotated[
        Path, typer.Option(help="Requests, as for trt-dp run.", rich_help_panel=INPUT)
    ] = Path("datasets/synthetic_2048_128.jsonl"),
    step_ms: Annotated[
        float | None,
        typer.Option(help="Milliseconds of a step with one request.", rich_help_panel=ENGINE),
    ] = None,
    sequence_us: Annotated[
        float,
        typer.Option(
            help="Microseconds by which each further request lengthens a step.",
            rich_help_panel=ENGINE,
        ),
    ] = 0.0,
    slots: Annotated[
        int, typer.Option(min=1, help="Requests in a full batch.", rich_help_panel=ENGINE)
    ] = 256,
    n_workers: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            help="Numbers of workers to compare. Repeatable. [default: 1 2 4 8]",
            rich_help_panel=DEVICES,
        ),
    ] = None,
    n_gpus: options.NGpus = None,
    workers_per_gpu: options.WorkersPerGpu = 1,
    launcher: options.Launcher = None,
    hosts: options.Hosts = None,
    launcher_set: options.LauncherSet = None,
    key_file: options.KeyFile = None,
    address: options.Address = None,
    port: options.Port = 0,
    host_seconds: options.HostSeconds = 60.0,
    price_per_hour: Annotated[
        float | None,
        typer.Option(help="Price of one worker for an hour.", rich_help_panel=DEVICES),
    ] = None,
    output: Annotated[
        Path, typer.Option(help="Folder whose disk will take the results.", rich_help_panel=OUTPUT)
    ] = Path("runs"),
) -> None:
    """Show what a run will need: requests, tokens, disk, and how long it will take in each order.

    Times need --step-ms. Every answer is taken to be as long as its request allows. With --hosts or --launcher,
    also who would run where; of several --n-workers the first counts there.
    """
    from trt_dp.dataset.open import open_dataset
    from trt_dp.errors import UsageError

    index = open_dataset(request_path, None, lambda _done, _total: None)
    _print_requests(index, output)
    where = launching.Asking(
        launcher=launcher,
        hosts=hosts,
        launcher_set=launcher_set,
        key_file=key_file,
        address=address,
        port=port,
        host_seconds=host_seconds,
        n_workers=n_workers[0] if n_workers else None,
        n_gpus=n_gpus,
        workers_per_gpu=workers_per_gpu,
    )
    if where.asked:
        launching.show_places(where)
    if step_ms is None:
        typer.echo("time: not predicted. Give --step-ms, --sequence-us and --slots of the engine")
        return
    if not (step_ms > 0 and sequence_us >= 0):
        msg = f"--step-ms is {step_ms} and --sequence-us {sequence_us}: a step takes more than 0"
        raise UsageError(msg)
    from trt_dp.simulate.forecast import forecast
    from trt_dp.simulate.step_models import Linear

    model = Linear(step_ms / 1e3, sequence_us / 1e6)
    lengths = index.lines["output_tokens"]
    good = lengths[lengths > 0].astype("i8")
    for workers in n_workers or (1, 2, 4, 8):
        _print_forecast(forecast(good, model, slots, workers), price_per_hour)


def _print_requests(index: Index, output: Path) -> None:
    import shutil

    from trt_dp.errors import DatasetError, UsageError

    if len(index.bad) == len(index):
        raise DatasetError(index.refusal())
    lines = index.lines[index.lines["output_tokens"] > 0]
    outputs = lines["output_tokens"].astype("i8")
    unknown = len(index) - len(index.bad) - len(lines)
    if unknown:
        msg = f"{unknown:,} requests give no max_tokens or output_tokens: nothing can be planned for them"
        raise UsageError(msg)
    needed = _COPIES * (len(lines) * _LINE_BYTES + int(outputs.sum()) * _TOKEN_BYTES)
    place = next(folder for folder in (output, *output.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    typer.echo(f"requests: {len(lines):,} valid, {len(index.bad):,} invalid")
    typer.echo(f"input tokens: {int(lines['input_tokens'].astype('i8').sum()):,}")
    typer.echo(f"output tokens: up to {int(outputs.sum()):,}, the longest {int(outputs.max()):,}")
    typer.echo(f"coordinator's memory: about {len(index) * _INDEX_BYTES / 1e6 + 50:,.0f} MB")
    typer.echo(f"disk: up to {needed / 1e9:,.2f} GB, {free / 1e9:,.2f} GB free on {place}")
    if needed > free:
        msg = f"the disk of {place} is too small for the results: choose another --output"
        raise UsageError(msg)


def _print_forecast(found: Forecast, price: float | None) -> None:
    times = ", ".join(f"{name} {_duration(seconds)}" for name, seconds in found.seconds.items())
    least = f"no order below {_duration(found.bound)}"
    cost = ""
    if price is not None:
        cost = f"; cost with auto {found.seconds['auto'] * found.workers / 3600 * price:,.2f}"
    typer.echo(f"{found.workers} worker{'s' * (found.workers > 1)}: {times}; {least}{cost}")


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.2f} h"
