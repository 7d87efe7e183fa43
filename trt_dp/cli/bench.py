"""The command bench: measure OpenAI-compatible servers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trt_dp.cli import bench_options as options

if TYPE_CHECKING:
    from trt_dp.bench.measure import Plan
    from trt_dp.bench.result import Measurement
    from trt_dp.display.bench import Live

EXAMPLES = """
trt-dp bench --endpoint http://127.0.0.1:8000
trt-dp bench --endpoint http://127.0.0.1:8000 --endpoint http://127.0.0.1:8001 --batch-size 4 --dp 2
trt-dp bench --endpoint http://127.0.0.1:8000 --request-rate 5       # arrivals as of many users
trt-dp bench --endpoint http://127.0.0.1:8000 --tokenizer DIR --also-with aiperf
"""


def bench(
    endpoint: options.Endpoint,
    model: options.Model = None,
    key_env: options.KeyEnv = None,
    tokenizer: options.Tokenizer = None,
    chat: options.Chat = False,
    vocab_size: options.VocabSize = 1000,
    body: options.Body = None,
    stop_at_eos: options.StopAtEos = False,
    batch_size: options.BatchSize = None,
    dp: options.Dp = None,
    request_rate: options.RequestRate = None,
    max_requests: options.MaxRequests = 100,
    warmup: options.Warmup = 0,
    seed: options.Seed = 0,
    input_mean: options.InputMean = 512,
    input_stdev: options.InputStdev = 0,
    output_mean: options.OutputMean = 128,
    output_stdev: options.OutputStdev = 0,
    answer_seconds: options.AnswerSeconds = 600.0,
    results_dir: options.ResultsDir = None,
    fresh: options.Fresh = False,
    also_with: Annotated[
        str | None,
        typer.Option(help="Also measure with aiperf, or the path of its command, and compare."),
    ] = None,
) -> None:
    """Measure servers: time to first token, time per token, latency, throughput.

    Keeps batch size x dp requests in flight, each at the endpoint with the fewest. Writes its numbers also as
    LLMPerf, AIPerf, vllm bench serve and trtllm-bench do.
    """
    options.check_installed()
    from trt_dp.bench.peers import aiperf
    from trt_dp.cli import bench_plan
    from trt_dp.display.bench import Live, print_measurement
    from trt_dp.errors import Interrupted

    asked = bench_plan.Asked(
        endpoint=endpoint,
        model=model,
        tokenizer=tokenizer,
        chat=chat,
        vocab_size=vocab_size,
        body=body,
        stop_at_eos=stop_at_eos,
        batch_size=batch_size,
        dp=dp,
        request_rate=request_rate,
        max_requests=max_requests,
        warmup=warmup,
        seed=seed,
        input_mean=input_mean,
        input_stdev=input_stdev,
        output_mean=output_mean,
        output_stdev=output_stdev,
        answer_seconds=answer_seconds,
        key_env=key_env,
    )
    plan = bench_plan.plan_of(asked)
    folder = bench_plan.folder_of(results_dir, fresh=fresh)
    tool = None
    if also_with is not None:
        tool = aiperf.find(also_with)
        aiperf.check(plan)
    with Live() as live:
        found = _measure(plan, folder, live)
    print_measurement(found)
    if not found.complete:
        told = f"stopped after {len(found.records):,} of {max_requests:,} requests"
        msg = f"{told}; their results are in {folder}"
        raise Interrupted(msg)
    if tool is not None:
        _compare(tool, plan, found, folder)
    typer.echo(f"\nresults: {folder}")
    if not found.summary.answered:
        raise typer.Exit(1)


def _measure(plan: Plan, folder: Path, live: Live) -> Measurement:
    from trt_dp.bench.measure import measure
    from trt_dp.bench.save import save

    found = measure(plan, live)
    save(found, folder)
    return found


def _compare(tool: str, plan: Plan, found: Measurement, folder: Path) -> None:
    from msgspec import structs

    from trt_dp.bench.peers import aiperf
    from trt_dp.bench.peers.comparison import of_summary, pairs
    from trt_dp.display.bench import print_pairs

    typer.echo(f"measuring with {tool}", err=True)
    same = structs.replace(
        plan, served=found.served
    )  # with the model's name, where the server told it
    theirs = aiperf.run(tool, same, folder / "also-with-aiperf")
    print_pairs(aiperf.NAME, pairs(of_summary(found.summary), theirs))
