"""The command run: answer every request of a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from trt_dp.cli import key_values, launching
from trt_dp.cli import run_options as options
from trt_dp.cli import run_servers as servers
from trt_dp.cli import sampling_flags as flags
from trt_dp.system import imports
from trt_dp.system.safe_text import plain

if TYPE_CHECKING:
    from trt_dp.coordinator.run import Outcome
    from trt_dp.dataset.reading import Reading

EXAMPLES = """
trt-dp run                                             # the default dataset and engine, on all devices
trt-dp run my.jsonl --output runs/first
trt-dp run my.jsonl --output runs/first                # again: resumes where the run stopped
trt-dp run 'shards/*.parquet' --prompt-column question # a table; all other columns come back
echo '{"prompt": "Hello"}' | trt-dp run - --output-format text
trt-dp run --n-workers 4 --n-gpus 2                    # four workers with two GPUs each
trt-dp run --hosts a,b --engine-path /shared/engine    # workers on two machines, by ssh
trt-dp run --engine openai --endpoint http://host:8000 # servers; --endpoint is repeatable
trt-dp run --serve vllm --model org/name --n-gpus 2    # servers for this run only
trt-dp run --engine echo                               # no model: try trt-dp itself
"""


def run(
    requests: options.Requests = None,
    request_path: options.RequestPath = None,
    format_: options.Format = None,
    prompt_column: options.PromptColumn = None,
    messages_column: options.MessagesColumn = None,
    ids_column: options.IdsColumn = None,
    id_column: options.IdColumn = None,
    skip_bad: options.SkipBad = False,
    engine_path: options.EnginePath = None,
    engine: options.Engine = None,
    set_: options.Set = None,
    endpoint: options.Endpoint = None,
    model: options.Model = None,
    serve: servers.Serve = None,
    serve_words: servers.ServeWords = None,
    serve_set: servers.ServeSet = None,
    n_workers: options.NWorkers = None,
    n_gpus: options.NGpus = None,
    workers_per_gpu: options.WorkersPerGpu = 1,
    allow_fewer_workers: options.AllowFewerWorkers = False,
    launcher: options.Launcher = None,
    hosts: options.Hosts = None,
    launcher_set: options.LauncherSet = None,
    key_file: options.KeyFile = None,
    address: options.Address = None,
    port: options.Port = 0,
    host_seconds: options.HostSeconds = 120.0,
    min_workers: options.MinWorkers = 1,
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
    order: options.Order = "auto",
    lengths_from: options.LengthsFrom = None,
    speculate: options.Speculate = False,
    ignore_eos: flags.IgnoreEos = False,
    logprobs: flags.Logprobs = False,
    system: flags.System = None,
    bos: flags.Bos = None,
    output: options.Output = None,
    fresh: options.Fresh = False,
    detokenize: options.Detokenize = False,
    keep_special_tokens: flags.KeepSpecialTokens = False,
    output_format: options.OutputFormat = None,
    no_timing: options.NoTiming = False,
    plain_: options.Plain = False,
    price_per_gpu_hour: options.PricePerGpuHour = None,
    metrics_port: options.MetricsPort = None,
    metrics_host: options.MetricsHost = "127.0.0.1",
    stall_seconds: options.StallSeconds = 120.0,
    start_seconds: options.StartSeconds = 120.0,
    load_seconds: options.LoadSeconds = 1800.0,
    answer_seconds: options.AnswerSeconds = 21_600.0,
    paused_seconds: options.PausedSeconds = 900.0,
    max_restarts: options.MaxRestarts = 5,
    grace_seconds: options.GraceSeconds = 30.0,
    plan: options.Plan = False,
) -> None:
    """Answer every request of a file or of several, and write the results in input order.

    To resume a run, repeat the command with the same --output.
    """
    with imports.lasting(), imports.without_matrices():
        if not plan:  # they import while this process imports
            from trt_dp.dataset import helpers

            helpers.expect([*(requests or ()), *(request_path or ())])
        from trt_dp import api
        from trt_dp.coordinator import run as _  # noqa: F401 - which api.run would load
        from trt_dp.coordinator.workers.limits import Limits
        from trt_dp.display import run as display
        from trt_dp.types import Sampling

    reading = options.reading(
        requests,
        request_path,
        format_,
        prompt_column=prompt_column,
        messages_column=messages_column,
        ids_column=ids_column,
        id_column=id_column,
    )
    choice = servers.Choice(
        engine=engine,
        engine_path=engine_path,
        model=model,
        endpoints=endpoint,
        workers=n_workers,
        gpus_per_worker=n_gpus,
        workers_per_gpu=workers_per_gpu,
    )
    if plan:
        _print_plan(reading, choice, key_values.parse(set_), max_tokens, output)
        return
    start = launching.settings(launcher, hosts, key_file, launcher_set)
    if launcher and (told := launching.submitted(start)):
        typer.echo(told)
        return
    wanted = servers.Servers(kind=serve, words=serve_words, options=serve_set)
    with (
        display.on_stderr(plain=plain_, metrics=(metrics_host, metrics_port)) as progress,
        servers.started(wanted, choice, progress.say) as chosen,
    ):
        outcome = api.run(
            reading,
            skip_bad=skip_bad,
            engine=chosen.engine,
            engine_path=chosen.engine_path,
            options=key_values.parse(set_),
            endpoints=chosen.endpoints,
            model=chosen.model,
            workers=chosen.workers,
            gpus_per_worker=chosen.gpus_per_worker,
            workers_per_gpu=chosen.workers_per_gpu,
            **start,
            address=address,
            port=port,
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
            speculate=speculate,
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
                paused_seconds=paused_seconds,
                max_restarts=max_restarts,
                host_seconds=host_seconds,
                min_workers=min_workers,
                allow_fewer=allow_fewer_workers,
            ),
            grace_seconds=grace_seconds,
            progress=progress,
        )
    _print_outcome(outcome, piped=output_format == "text")
    if outcome.report.requests.failed:
        raise typer.Exit(3)


def _print_plan(
    reading: Reading,
    choice: servers.Choice,
    settings: dict[str, str],
    max_tokens: int | None,
    output: Path | None,
) -> None:
    """What the run would need, and which worker would get what."""
    from trt_dp.display.plan import print_run_plan
    from trt_dp.engines.choose import choose_engine, server_options
    from trt_dp.types import EngineSpec

    settings = settings | server_options(choice.endpoints, choice.model)
    print_run_plan(
        reading,
        EngineSpec(*choose_engine(choice.engine, choice.engine_path), options=settings),
        (choice.workers, choice.gpus_per_worker, choice.workers_per_gpu),
        max_tokens,
        output or Path("runs"),
    )


def _print_outcome(outcome: Outcome, *, piped: bool) -> None:
    """The report, and where everything is; the answers alone on stdout where they are piped on."""
    from trt_dp.coordinator.export import copy_to_stdout
    from trt_dp.display.report import print_reports

    if piped and outcome.answers:
        copy_to_stdout(outcome.answers)
    print_reports([("", outcome.report)], stderr=piped)
    if outcome.answers:
        typer.echo(f"answers: {plain(outcome.answers)}", err=piped)
    typer.echo(f"results: {plain(outcome.results)}", err=piped)
    typer.echo(f"report: {plain(outcome.page)}", err=piped)
    if outcome.report.requests.failed:
        typer.echo(f"failures: {plain(outcome.failures)}", err=piped)
