"""The commands: each parses its options, calls one function, and prints what came of it."""

from __future__ import annotations

import contextlib
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

import typer

from trt_dp.cli import build as cli_build
from trt_dp.cli import doctor as cli_doctor
from trt_dp.cli import key_values
from trt_dp.cli import prepare as cli_prepare
from trt_dp.errors import UNREADABLE, Interrupted, TrtDpError, UsageError
from trt_dp.system import safe_files
from trt_dp.system.safe_text import plain

_SEED_SPELLINGS = {"token_normalize_func": lambda name: name.replace("_", "-")}

app = typer.Typer(
    name="trt-dp",
    help="Offline data-parallel LLM inference: one file of requests, N engines, ordered results.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # rich's help costs more than all else that --help does
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(cli_prepare.app, name="prepare-dataset")
app.command(cls=cli_build.Command, context_settings=cli_build.SPELLINGS)(cli_build.build)
app.command()(cli_doctor.doctor)


def main() -> None:
    """Run a command; a TrtDpError is one sentence on stderr, anything else is a bug with its traceback."""
    try:
        app()
    except TrtDpError as error:
        typer.echo(f"trt-dp: {plain(error)}", err=True)
        sys.exit(error.exit_status)
    except OSError as error:  # the environment: a full disk, a missing permission
        named = f"{error.filename}: " if error.filename else ""
        with contextlib.suppress(OSError):
            typer.echo(f"trt-dp: {plain(named)}{plain(error.strerror or error)}", err=True)
        sys.exit(TrtDpError.exit_status)
    except KeyboardInterrupt:
        typer.echo("trt-dp: stopped", err=True)
        sys.exit(Interrupted.exit_status)


@app.command(context_settings=_SEED_SPELLINGS)
def run(
    request_path: Annotated[
        Path, typer.Option(help="The requests: JSON lines, or NVIDIA's JSON document.")
    ] = Path("datasets/synthetic_2048_128.jsonl"),
    engine_path: Annotated[
        Path | None,
        typer.Option(help="The folder of the engine. [default: engines/default]"),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            help="The engine's name (see trt-dp plugins). [default: what the folder is for]"
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="An option of the engine; repeatable."),
    ] = None,
    output_dir: Annotated[
        Path | None,
        typer.Option(help="The run folder; a run goes on in its own. [default: runs/<UTC time>]"),
    ] = None,
    n_workers: Annotated[
        int | None, typer.Option(help="Worker processes. [default: as many as the GPUs allow]")
    ] = None,
    n_gpus: Annotated[
        int | None,
        typer.Option(help="GPUs for each worker; CPU cores where there is no GPU. [default: 1]"),
    ] = None,
    workers_per_gpu: Annotated[int, typer.Option(help="Workers that share each GPU.")] = 1,
    launcher: Annotated[
        str, typer.Option(help="What starts the workers: local, mpi or inline.")
    ] = "local",
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over in this run folder.")] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Answer the rest where lines are no requests.")
    ] = False,
    temperature: Annotated[
        float, typer.Option(help="Sample at this temperature; 0 takes the likeliest token.")
    ] = 0.0,
    top_k: Annotated[int, typer.Option(help="Sample from the k likeliest tokens; 0: all.")] = 0,
    top_p: Annotated[
        float, typer.Option(help="Sample from the likeliest tokens that make up this probability.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="Of the random numbers of sampling.")] = 0,
    stop_at_eos: Annotated[
        bool,
        typer.Option("--stop-at-eos", help="End answers early, where the model ends them."),
    ] = False,
    detokenize: Annotated[
        bool, typer.Option("--detokenize", help="Give answers as text as well.")
    ] = False,
    no_timing: Annotated[
        bool, typer.Option("--no-timing", help="Leave worker and timing out of the results.")
    ] = False,
    stall_seconds: Annotated[
        float, typer.Option(help="End a worker whose engine does not return for this long.")
    ] = 120.0,
    start_seconds: Annotated[
        float, typer.Option(help="End a worker that takes longer to connect.")
    ] = 120.0,
    load_seconds: Annotated[
        float, typer.Option(help="End a worker whose engine takes longer to load.")
    ] = 1800.0,
    answer_seconds: Annotated[
        float, typer.Option(help="End a worker that holds requests and answers none for so long.")
    ] = 21_600.0,
    max_restarts: Annotated[
        int, typer.Option(help="Deaths in a row, without an answer, that a worker may have.")
    ] = 5,
    grace_seconds: Annotated[
        float, typer.Option(help="After Ctrl-C, wait this long for what is in hand.")
    ] = 30.0,
) -> None:
    """Answer every request of a file with N engines, and leave the results in input order.

    Run the same command with the same --output-dir to go on where a run was stopped.
    """
    from trt_dp.coordinator import run as runner
    from trt_dp.coordinator.job import Job
    from trt_dp.coordinator.limits import Limits
    from trt_dp.display import run as display
    from trt_dp.engines.choose import choose_engine
    from trt_dp.types import EngineSpec, Sampling

    sampling = Sampling(temperature, top_k, top_p, seed, stop_at_eos)
    name, path = choose_engine(engine, engine_path)
    job = Job(
        dataset=request_path,
        folder=output_dir or _new_folder(),
        engine=EngineSpec(name, path, key_values.parse(set_), sampling),
        workers=n_workers,
        gpus_per_worker=n_gpus,
        workers_per_gpu=workers_per_gpu,
        launcher=launcher,
        fresh=fresh,
        skip_bad=skip_bad,
        timing=not no_timing,
        detokenize=detokenize,
        limits=Limits(
            start_seconds=start_seconds,
            load_seconds=load_seconds,
            stall_seconds=stall_seconds,
            answer_seconds=answer_seconds,
            max_restarts=max_restarts,
        ),
        grace_seconds=grace_seconds,
    )
    with display.on_stderr() as shown:
        outcome = runner.run(job, shown)
    display.print_reports([("", outcome.report)])
    typer.echo(f"results: {plain(outcome.folder / 'results.jsonl')}")
    if outcome.report.requests.failed:
        typer.echo(f"failures: {plain(outcome.folder / 'failures.jsonl')}")
        raise typer.Exit(3)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")],
) -> None:
    """Print the report of a run, or compare several side by side."""
    import msgspec

    from trt_dp.display import run as display
    from trt_dp.report.summary import Report

    reports = []
    for folder in runs:
        try:
            found = msgspec.json.decode(safe_files.read(folder / "report.json"), type=Report)
        except (OSError, *UNREADABLE) as error:
            msg = f"{folder} holds no report of a finished run: {error}"
            raise UsageError(msg) from error
        reports.append((str(folder), found))
    display.print_reports(reports)


@app.command()
def plugins() -> None:
    """List the engines, builders and launchers that are installed."""
    from trt_dp import plugins as found

    for group in (found.ENGINES, found.BUILDERS, found.LAUNCHERS):
        typer.echo(group.rpartition(".")[2])
        for point in found.names(group):
            package = point.dist.name if point.dist else "?"
            typer.echo(f"  {point.name:<12} {point.value} ({package})")


def _new_folder() -> Path:
    return Path("runs") / datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")
