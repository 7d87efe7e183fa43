"""The command plan: what a run will need and how long it will take, before anything is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trt_dp.cli import launching
from trt_dp.cli import run_options as options
from trt_dp.cli import sampling_flags as flags
from trt_dp.cli.help import DEVICES, ENGINE, OUTPUT

if TYPE_CHECKING:
    from trt_dp.simulate.forecast import Calibrated

EXAMPLES = """
trt-dp plan my.jsonl                                                # requests, tokens, disk
trt-dp plan my.jsonl --calibration calibration.json                 # and how long it will take
trt-dp plan my.jsonl --calibration tp1.json --calibration tp2.json  # two engines side by side
trt-dp plan my.jsonl --step-ms 6 --sequence-us 22 --slots 256 --price-per-hour 4
trt-dp plan my.jsonl --hosts a,b                                    # and who would run where
"""


def plan(
    requests: options.Requests = None,
    request_path: options.RequestPath = None,
    format_: options.Format = None,
    prompt_column: options.PromptColumn = None,
    messages_column: options.MessagesColumn = None,
    ids_column: options.IdsColumn = None,
    id_column: options.IdColumn = None,
    engine_path: options.EnginePath = None,
    calibration: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="What trt-dp calibrate measured of an engine. Repeatable, to compare engines.",
            rich_help_panel=ENGINE,
        ),
    ] = None,
    step_ms: Annotated[
        float | None,
        typer.Option(
            help="Without a calibration: milliseconds of a step with one request.",
            rich_help_panel=ENGINE,
        ),
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
        typer.Option(
            help="Price of a GPU for an hour; of a worker, where it has none.",
            rich_help_panel=DEVICES,
        ),
    ] = None,
    max_tokens: flags.MaxTokens = None,
    output: Annotated[
        Path, typer.Option(help="Folder whose disk will take the results.", rich_help_panel=OUTPUT)
    ] = Path("runs"),
) -> None:
    """Show what a run will need: requests, tokens, disk, and how long it will take in each order.

    Times need a --calibration or --step-ms. Every answer is taken to be as long as its request allows. With --hosts
    or --launcher it also shows which worker would run where, for the first --n-workers.
    """
    from trt_dp.dataset.open import glance
    from trt_dp.display.plan import best_lines, forecast_line, needs_lines
    from trt_dp.engines.choose import context_of
    from trt_dp.simulate.forecast import Likeness, forecast
    from trt_dp.simulate.needs import Allowed, needs_of

    reading = options.reading(
        requests,
        request_path,
        format_,
        prompt_column=prompt_column,
        messages_column=messages_column,
        ids_column=ids_column,
        id_column=id_column,
    )
    known = _engines(calibration or [], step_ms, sequence_us, slots)
    context = context_of(engine_path) if engine_path else None
    index = glance(reading)
    needs = needs_of(index, Allowed(max_tokens, context))
    for line in needs_lines(index, needs, context, output):
        typer.echo(line)
    if not known:
        typer.echo("time: not predicted. Give --calibration (see trt-dp calibrate), or --step-ms, "
                   "--sequence-us and --slots of the engine")  # fmt: skip
    found = []
    for each in known:
        likeness = Likeness.of(needs, each)
        for workers in n_workers or (1, 2, 4, 8):
            found.append((each, forecast(likeness, each, workers)))
            typer.echo(forecast_line(*found[-1], price_per_hour))
    for line in best_lines(found):
        typer.echo(line)
    where = launching.Asking(
        launcher=launcher,
        hosts=hosts,
        launcher_set=launcher_set,
        key_file=key_file,
        address=address,
        port=port,
        host_seconds=host_seconds,
        engine_path=str(engine_path or ""),
        n_workers=n_workers[0] if n_workers else None,
        n_gpus=n_gpus,
        workers_per_gpu=workers_per_gpu,
    )
    if where.asked:
        launching.show_places(where)


def _engines(
    files: list[Path], step_ms: float | None, sequence_us: float, slots: int
) -> list[Calibrated]:
    from trt_dp.errors import UsageError
    from trt_dp.simulate import calibrate
    from trt_dp.simulate.forecast import Calibrated
    from trt_dp.simulate.step_models import Linear

    found = [Calibrated.of(file.stem, calibrate.load(file)) for file in files]
    if step_ms is None:
        return found
    if not (step_ms > 0 and sequence_us >= 0):
        msg = f"--step-ms is {step_ms} and --sequence-us {sequence_us}: a step takes more than 0"
        raise UsageError(msg)
    model = Linear(step_ms / 1e3, sequence_us / 1e6)
    return [*found, Calibrated(name="", model=model, slots=slots)]
