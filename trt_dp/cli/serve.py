"""The command serve: servers of OpenAI's API, each on its own devices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from trt_dp.cli import help as helps
from trt_dp.cli import key_values
from trt_dp.cli import serve_options as options

if TYPE_CHECKING:
    from trt_dp.serving.launch import Layout
    from trt_dp.serving.post import Limits

EXAMPLES = """
trt-dp serve engines/default                                  # two small servers of trt-dp itself
trt-dp serve meta-llama/Llama-3.1-8B --server vllm            # a vLLM on each GPU, ports 8000, 8001, ...
trt-dp serve MODEL --server vllm --n-workers 2 --n-gpus 4 --batch-size 64 -- --enable-prefix-caching
trt-dp serve MODEL --server trtllm --proxy nginx              # NGINX on port 8000, the servers behind it
trt-dp serve MODEL --server vllm --neuron-cores 0-63 --n-workers 2 --batch-size 4
trt-dp serve engines/llama --server triton --mode orchestrator # or leader, instances
trt-dp serve MODEL --server sglang --dry-run                  # files and commands only
"""


class Command(helps.Command):
    """Keeps the words after `--` for the servers."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Split them off before typer sees them: it would take the first one for the MODEL."""
        at = args.index("--") if "--" in args else len(args)
        ctx.obj = tuple(args[at + 1 :])
        return super().parse_args(ctx, args[:at])


def serve(
    ctx: typer.Context,
    model: options.Model = None,
    server: options.Server = "cpu",
    engine: options.Engine = None,
    set_: options.Set = None,
    served_model_name: options.ServedModelName = None,
    batch_size: options.BatchSize = None,
    context: options.Context = None,
    program: options.Program = None,
    n_workers: options.NWorkers = None,
    n_gpus: options.NGpus = None,
    workers_per_gpu: options.WorkersPerGpu = 1,
    neuron_cores: options.NeuronCores = None,
    host: options.Host = "127.0.0.1",
    port: options.Port = 8000,
    mode: options.Mode = None,
    proxy: options.Proxy = None,
    deterministic: options.Deterministic = False,
    output: options.Output = None,
    dry_run: options.DryRun = False,
    plain: options.Plain = False,
    load_seconds: options.LoadSeconds = 1800.0,
    silent_seconds: options.SilentSeconds = 60.0,
    max_restarts: options.MaxRestarts = 5,
) -> None:
    """Start servers of OpenAI's API, each on its own devices, and keep them running until Ctrl-C.

    The endpoints are printed once all can be used. Words after -- are added to each server's command.
    """
    from trt_dp.placement.machine import look
    from trt_dp.serving.launch import as_shell
    from trt_dp.serving.layout import Asked, layout, proxy_named
    from trt_dp.serving.post import Limits
    from trt_dp.serving.servers import Wish

    wish = Wish(
        model=model,
        served_name=served_model_name,
        program=program,
        batch_size=batch_size,
        context=context,
        engine=engine,
        options=key_values.parse(set_),
        words=ctx.obj,
    )
    asked = Asked(
        server=server,
        wish=wish,
        folder=output or options.new_folder(),
        workers=n_workers,
        gpus_per_worker=n_gpus,
        workers_per_gpu=workers_per_gpu,
        neuron_cores=neuron_cores,
        host=host,
        port=port,
        mode=mode,
        proxy=proxy_named(proxy),
        deterministic=deterministic,
    )
    found = layout(asked, look())
    if dry_run:
        typer.echo(as_shell(found))
        return
    limits = Limits(
        load_seconds=load_seconds, silent_seconds=silent_seconds, max_restarts=max_restarts
    )
    _serve(found, limits, plain=plain)


def _serve(found: Layout, limits: Limits, *, plain: bool) -> None:
    from trt_dp.display.serve import on_stderr
    from trt_dp.serving.serve import serve

    with on_stderr(plain_=plain) as display:
        serve(found, limits, display, lambda it: typer.echo("\n".join(it.endpoints)))
