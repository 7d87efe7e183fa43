"""The command run: answer every request of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trt_dp.cli import key_values
from trt_dp.cli import sampling_flags as flags
from trt_dp.cli.help import DEVICES, ENGINE, INPUT, ORDER, OUTPUT, RELIABILITY
from trt_dp.system.safe_text import plain

EXAMPLES = """
trt-dp run                                             # the default dataset and engine, on all devices
trt-dp run my.jsonl --output runs/first
trt-dp run my.jsonl --output runs/first                # again: resumes where the run stopped
trt-dp run 'shards/*.parquet' --prompt-column question # a table; all other columns come back
echo '{"prompt": "Hello"}' | trt-dp run - --output-format text
trt-dp run --n-workers 4 --n-gpus 2                    # four workers with two GPUs each
trt-dp run --engine echo                               # no model: try trt-dp itself
"""
_DEFAULT = "datasets/synthetic_2048_128.jsonl"


def run(
    requests: Annotated[
        list[str] | None,
        typer.Argument(
            help="Files of requests, folders, globs, or - for stdin. "
            "[default: datasets/synthetic_2048_128.jsonl]",
            show_default=False,
        ),
    ] = None,
    request_path: Annotated[
        list[str] | None,
        typer.Option(help="The same as REQUESTS. Repeatable.", rich_help_panel=INPUT),
    ] = None,
    format_: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="Format of the requests; trt-dp plugins lists the readers. [default: recognised]",
            rich_help_panel=INPUT,
        ),
    ] = None,
    prompt_column: Annotated[
        str | None,
        typer.Option(help="Column of a table that holds text.", rich_help_panel=INPUT),
    ] = None,
    messages_column: Annotated[
        str | None,
        typer.Option(help="Column of a table that holds chat messages.", rich_help_panel=INPUT),
    ] = None,
    ids_column: Annotated[
        str | None,
        typer.Option(help="Column of a table that holds token ids.", rich_help_panel=INPUT),
    ] = None,
    id_column: Annotated[
        str | None,
        typer.Option(help="Column of a table that names the requests.", rich_help_panel=INPUT),
    ] = None,
    skip_bad: Annotated[
        bool,
        typer.Option(
            "--skip-bad",
            help="Skip invalid lines. Each becomes a failure with its reason.",
            rich_help_panel=INPUT,
        ),
    ] = False,
    engine_path: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the engine. [default: engines/default]", rich_help_panel=ENGINE
        ),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            help="Name of the engine; trt-dp plugins lists them. [default: found from the folder]",
            rich_help_panel=ENGINE,
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Set an option of the engine. Repeatable.",
            rich_help_panel=ENGINE,
        ),
    ] = None,
    n_workers: Annotated[
        int | None,
        typer.Option(
            help="Worker processes. [default: as many as the GPUs allow; 2 on a CPU]",
            rich_help_panel=DEVICES,
        ),
    ] = None,
    n_gpus: Annotated[
        int | None,
        typer.Option(
            help="GPUs for each worker; CPU cores on a machine without a GPU. [default: 1]",
            rich_help_panel=DEVICES,
        ),
    ] = None,
    workers_per_gpu: Annotated[
        int, typer.Option(help="Workers that share each GPU.", rich_help_panel=DEVICES)
    ] = 1,
    launcher: Annotated[
        str,
        typer.Option(
            help="How workers start: local, mpi, or inline for debugging.", rich_help_panel=DEVICES
        ),
    ] = "local",
    temperature: flags.Temperature = 0.0,
    top_k: flags.TopK = 0,
    top_p: flags.TopP = 1.0,
    min_p: flags.MinP = 0.0,
    seed: flags.Seed = 0,
    repetition_penalty: flags.RepetitionPenalty = 1.0,
    presence_penalty: flags.PresencePenalty = 0.0,
    frequency_penalty: flags.FrequencyPenalty = 0.0,
    max_tokens: flags.MaxTokens = None,
    min_tokens: flags.MinTokens = 0,
    stop: flags.Stop = None,
    stop_token_ids: flags.StopTokenIds = None,
    stop_at_eos: flags.StopAtEos = False,
    order: Annotated[
        str,
        typer.Option(
            help="Which requests go first: auto, file, longest or lanes. Results are the same.",
            rich_help_panel=ORDER,
        ),
    ] = "auto",
    lengths_from: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Folder of an earlier run of this dataset: expect answers as long as its answers.",
            rich_help_panel=ORDER,
        ),
    ] = None,
    ignore_eos: flags.IgnoreEos = False,
    logprobs: flags.Logprobs = False,
    system: flags.System = None,
    bos: flags.Bos = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Folder for results. Reuse it to resume a run. [default: runs/<UTC time>]",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    fresh: Annotated[
        bool,
        typer.Option(
            "--fresh",
            help="Delete an earlier run in the folder and start over.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    detokenize: Annotated[
        bool,
        typer.Option(
            "--detokenize",
            help="Write answers to token ids as text as well.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    keep_special_tokens: flags.KeepSpecialTokens = False,
    output_format: Annotated[
        str | None,
        typer.Option(
            help="Write the answers in this format too: text (to stdout), jsonl, csv, parquet or openai.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    no_timing: Annotated[
        bool,
        typer.Option(
            "--no-timing",
            help="Write results without worker and timing, so that they are the same in every run.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    plain_: Annotated[
        bool,
        typer.Option(
            "--plain",
            help="Print a line now and then instead of a live view.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    price_per_gpu_hour: Annotated[
        float | None,
        typer.Option(help="Tell in the report what the run cost.", rich_help_panel=OUTPUT),
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            help="Serve Prometheus metrics on this port; 0 chooses one.", rich_help_panel=OUTPUT
        ),
    ] = None,
    metrics_host: Annotated[
        str,
        typer.Option(
            help="Address for metrics. Anybody who reaches it can read them.",
            rich_help_panel=OUTPUT,
        ),
    ] = "127.0.0.1",
    stall_seconds: Annotated[
        float,
        typer.Option(
            help="Restart a worker that shows no sign of life for this long.",
            rich_help_panel=RELIABILITY,
        ),
    ] = 120.0,
    start_seconds: Annotated[
        float,
        typer.Option(
            help="Restart a worker that takes longer than this to connect.",
            rich_help_panel=RELIABILITY,
        ),
    ] = 120.0,
    load_seconds: Annotated[
        float,
        typer.Option(
            help="Restart a worker that takes longer than this to load its engine.",
            rich_help_panel=RELIABILITY,
        ),
    ] = 1800.0,
    answer_seconds: Annotated[
        float,
        typer.Option(
            help="Restart a worker that has requests in flight and answers none for this long.",
            rich_help_panel=RELIABILITY,
        ),
    ] = 21_600.0,
    max_restarts: Annotated[
        int,
        typer.Option(
            help="Deaths in a row without an answer before a worker is retired.",
            rich_help_panel=RELIABILITY,
        ),
    ] = 5,
    grace_seconds: Annotated[
        float,
        typer.Option(
            help="After Ctrl-C, wait up to this long for requests in flight.",
            rich_help_panel=RELIABILITY,
        ),
    ] = 30.0,
) -> None:
    """Answer every request of a file or of several, and write the results in input order.

    To resume a run, repeat the command with the same --output.
    """
    from trt_dp import api
    from trt_dp.coordinator.export import copy_to_stdout
    from trt_dp.coordinator.workers.limits import Limits
    from trt_dp.dataset.reading import Reading
    from trt_dp.display import run as display
    from trt_dp.display.report import print_reports
    from trt_dp.types import Sampling

    with display.on_stderr(plain=plain_, metrics=(metrics_host, metrics_port)) as progress:
        outcome = api.run(
            Reading(
                inputs=(*(requests or ()), *(request_path or ())) or (_DEFAULT,),
                format=format_,
                prompt_column=prompt_column,
                messages_column=messages_column,
                ids_column=ids_column,
                id_column=id_column,
            ),
            skip_bad=skip_bad,
            engine=engine,
            engine_path=engine_path,
            options=key_values.parse(set_),
            workers=n_workers,
            gpus_per_worker=n_gpus,
            workers_per_gpu=workers_per_gpu,
            launcher=launcher,
            sampling=Sampling(
                temperature=temperature,
                top_k=top_k,
                top_p=top_p,
                min_p=min_p,
                seed=seed,
                min_tokens=min_tokens,
                stop=tuple(stop or ()),
                stop_token_ids=tuple(stop_token_ids or ()),
                ignore_eos=ignore_eos,
                repetition_penalty=repetition_penalty,
                presence_penalty=presence_penalty,
                frequency_penalty=frequency_penalty,
                logprobs=1 if logprobs else None,
            ),
            order=order,
            lengths_from=lengths_from,
            max_tokens=max_tokens,
            stop_at_eos=stop_at_eos,
            system=system,
            bos=bos,
            output=output,
            fresh=fresh,
            detokenize=detokenize,
            keep_special_tokens=keep_special_tokens,
            output_format=output_format,
            timing=not no_timing,
            price_per_gpu_hour=price_per_gpu_hour,
            limits=Limits(
                start_seconds=start_seconds,
                stall_seconds=stall_seconds,
                load_seconds=load_seconds,
                answer_seconds=answer_seconds,
                max_restarts=max_restarts,
            ),
            grace_seconds=grace_seconds,
            progress=progress,
        )
    piped = output_format == "text"
    if piped and outcome.answers:
        copy_to_stdout(outcome.answers)
    print_reports([("", outcome.report)], stderr=piped)
    if outcome.answers:
        typer.echo(f"answers: {plain(outcome.answers)}", err=piped)
    typer.echo(f"results: {plain(outcome.results)}", err=piped)
    typer.echo(f"report: {plain(outcome.page)}", err=piped)
    if outcome.report.requests.failed:
        typer.echo(f"failures: {plain(outcome.failures)}", err=piped)
        raise typer.Exit(3)
