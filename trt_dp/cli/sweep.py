"""The command sweep: find the best setting of servers by measuring them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trt_dp.cli import bench_options as options
from trt_dp.cli import key_values, serve
from trt_dp.cli import serve_options as servers
from trt_dp.cli.help import DEVICES, ENGINE, OUTPUT, RELIABILITY

if TYPE_CHECKING:
    from trt_dp.bench.measure import Plan
    from trt_dp.bench.sweep.folder import Folder
    from trt_dp.bench.sweep.grid import Setting
    from trt_dp.bench.sweep.outcome import Goal, Outcome
    from trt_dp.bench.sweep.run import Start
    from trt_dp.bench.sweep.servers import Kind

EXAMPLES = """
trt-dp sweep MODEL --server vllm --tp 8,4,2 --dp 1,2,4 --batch-size 1,4 --results-dir sweeps/first
trt-dp sweep MODEL --server vllm --tp 4,2 --max-tpot-ms 30 --results-dir sweeps/second  # at most 30 ms per token
trt-dp sweep --tp 2,1 --dp 1,2 --results-dir sweeps/own -- my-server --gpus {tp} --port {port}
"""
Command = serve.Command  # it keeps the words after `--` too


def sweep(
    ctx: typer.Context,
    results_dir: Annotated[
        Path,
        typer.Option(help="Folder for results. Reuse it to resume.", rich_help_panel=OUTPUT),
    ],
    model_path: servers.Model = None,
    server: Annotated[
        str | None,
        typer.Option(
            help="vllm, trtllm, sglang or cpu, as for trt-dp serve; words after -- are added to its command. "
            "Without it they are the command, in which {port}, {tp}, {dp}, {batch_size} and {number} are filled in.",
            rich_help_panel=ENGINE,
        ),
    ] = None,
    engine: servers.Engine = None,
    set_: servers.Set = None,
    program: servers.Program = None,
    context: servers.Context = None,
    neuron_cores: servers.NeuronCores = None,
    tp: Annotated[
        str, typer.Option(help="Devices for each server, such as 8,4,2.", rich_help_panel=DEVICES)
    ] = "1",
    dp: Annotated[
        str, typer.Option(help="Numbers of servers, such as 1,2,4.", rich_help_panel=DEVICES)
    ] = "1",
    batch_size: Annotated[
        str,
        typer.Option(
            help="Requests in flight for each server, such as 1,4.", rich_help_panel=DEVICES
        ),
    ] = "1",
    model: options.Model = None,
    tokenizer: options.Tokenizer = None,
    chat: options.Chat = False,
    vocab_size: options.VocabSize = 1000,
    body: options.Body = None,
    stop_at_eos: options.StopAtEos = False,
    max_requests: options.MaxRequests = 100,
    warmup: options.Warmup = 0,
    seed: options.Seed = 0,
    input_mean: options.InputMean = 512,
    input_stdev: options.InputStdev = 0,
    output_mean: options.OutputMean = 128,
    output_stdev: options.OutputStdev = 0,
    answer_seconds: options.AnswerSeconds = 600.0,
    start_seconds: Annotated[
        float,
        typer.Option(
            help="A setting fails if its servers take longer.", rich_help_panel=RELIABILITY
        ),
    ] = 1800.0,
    max_ttft_ms: Annotated[
        float | None, typer.Option(help="The best has at most this median time to first token.")
    ] = None,
    max_tpot_ms: Annotated[
        float | None, typer.Option(help="The best has at most this median time per token.")
    ] = None,
    fresh: options.Fresh = False,
) -> None:
    """Start, measure and stop servers in every setting that fits on the devices, and compare them.

    The same command resumes where it was stopped. sweep.html in the results shows throughput against latency.
    """
    options.check_installed()
    import functools

    from trt_dp.bench.sweep.grid import numbers, settings
    from trt_dp.bench.sweep.outcome import Goal
    from trt_dp.bench.sweep.servers import running
    from trt_dp.cli import bench_plan, sweep_plan

    asked = bench_plan.Asked(
        model=model,
        tokenizer=tokenizer,
        chat=chat,
        vocab_size=vocab_size,
        body=body,
        stop_at_eos=stop_at_eos,
        max_requests=max_requests,
        warmup=warmup,
        seed=seed,
        input_mean=input_mean,
        input_stdev=input_stdev,
        output_mean=output_mean,
        output_stdev=output_stdev,
        answer_seconds=answer_seconds,
    )
    plan = bench_plan.plan_of(asked)
    wanted = settings(numbers("--tp", tp), numbers("--dp", dp), numbers("--batch-size", batch_size))
    named = sweep_plan.Named(
        server=server,
        model_path=model_path,
        engine=engine,
        options=key_values.parse(set_),
        program=program,
        context=context,
        neuron_cores=neuron_cores,
        words=ctx.obj,
    )
    kind = sweep_plan.kind_of(named)
    wanted = sweep_plan.fitting(wanted, kind, results_dir)
    folder = sweep_plan.folder_of(results_dir, plan, kind, fresh=fresh)
    start = functools.partial(running, kind, start_seconds)
    outcomes = _go(wanted, plan, start, folder)
    _show(outcomes, Goal(ttft_ms=max_ttft_ms, tpot_ms=max_tpot_ms), kind, folder)


def _go(wanted: list[Setting], plan: Plan, start: Start, folder: Folder) -> list[Outcome]:
    from trt_dp.bench.sweep.run import sweep
    from trt_dp.display.bench import Live
    from trt_dp.system.signals import stoppable

    left = f"run the same command again to resume; finished settings are in {folder.path}"
    with Live() as live, stoppable(left):
        return sweep(wanted, plan, start, folder, live)


def _show(outcomes: list[Outcome], goal: Goal, kind: Kind, folder: Folder) -> None:
    from trt_dp.bench.save import write
    from trt_dp.bench.sweep.outcome import best
    from trt_dp.bench.sweep.page import page
    from trt_dp.display.sweep import print_outcomes

    chosen = best(outcomes, goal)
    typed = "" if chosen is None else kind.typed(chosen.setting)
    drawn = folder.path / "sweep.html"
    write(drawn, page(f"Sweep {folder.path.name}", outcomes, chosen, typed).encode())
    print_outcomes(outcomes, chosen, typed)
    typer.echo(f"\npage: {drawn}")
    if chosen is None:
        raise typer.Exit(1)
