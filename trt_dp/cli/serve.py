"""The command serve: servers of OpenAI's API, each on its own devices."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from trt_dp.cli import help as helps
from trt_dp.cli import key_values
from trt_dp.cli.help import DEVICES, ENGINE, OUTPUT, RELIABILITY
from trt_dp.cli.serve_options import new_folder

EXAMPLES = """
trt-dp serve engines/default                                  # two small servers of trt-dp itself
trt-dp serve meta-llama/Llama-3.1-8B --server vllm            # a vLLM on each GPU, ports 8000, 8001, ...
trt-dp serve MODEL --server vllm --n-workers 2 --n-gpus 4 --batch-size 64 -- --enable-prefix-caching
trt-dp serve MODEL --server trtllm --proxy nginx              # NGINX on port 8000, the servers behind it
trt-dp serve MODEL --server vllm --neuron-cores 0-63 --n-workers 2 --batch-size 4
trt-dp serve engines/llama --server triton --mode orchestrator # or leader, instances
trt-dp serve MODEL --server sglang --dry-run                  # files and commands only
"""

_NETWORK = "Network"


class Command(helps.Command):
    """Keeps the words after `--` for the servers."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Split them off before typer sees them: it would take the first one for the MODEL."""
        at = args.index("--") if "--" in args else len(args)
        ctx.obj = tuple(args[at + 1 :])
        return super().parse_args(ctx, args[:at])


def serve(
    ctx: typer.Context,
    model: Annotated[
        str | None,
        typer.Argument(
            help="Folder of a model or engine, or a name that the server can fetch.",
            show_default=False,
        ),
    ] = None,
    server: Annotated[
        str,
        typer.Option(
            help="vllm, trtllm, sglang, triton, or cpu: trt-dp's own, for tests and small use. "
            "trt-dp plugins lists them.",
            rich_help_panel=ENGINE,
        ),
    ] = "cpu",
    engine: Annotated[
        str | None,
        typer.Option(
            help="Engine of the server cpu. [default: found from the folder]",
            rich_help_panel=ENGINE,
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Set an option of that engine. Repeatable.",
            rich_help_panel=ENGINE,
        ),
    ] = None,
    served_model_name: Annotated[
        str | None,
        typer.Option(help="What clients call the model.", rich_help_panel=ENGINE),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Most requests in flight in each server.", rich_help_panel=ENGINE),
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(
            min=1, help="Most tokens of prompt and answer together.", rich_help_panel=ENGINE
        ),
    ] = None,
    program: Annotated[
        str | None,
        typer.Option(
            help="The server's program where it is not on PATH, such as .venv-vllm/bin/vllm.",
            rich_help_panel=ENGINE,
        ),
    ] = None,
    n_workers: Annotated[
        int | None,
        typer.Option(
            help="Servers. [default: as many as the GPUs allow; 2 on a CPU]",
            rich_help_panel=DEVICES,
        ),
    ] = None,
    n_gpus: Annotated[
        int | None,
        typer.Option(
            help="GPUs, or NeuronCores, among which each server divides its model; "
            "CPU cores on a machine without a GPU. [default: 1 GPU]",
            rich_help_panel=DEVICES,
        ),
    ] = None,
    workers_per_gpu: Annotated[
        int, typer.Option(help="Servers that share each GPU.", rich_help_panel=DEVICES)
    ] = 1,
    neuron_cores: Annotated[
        str | None,
        typer.Option(
            metavar="FIRST-LAST",
            help="NeuronCores to divide among the servers instead of GPUs.",
            rich_help_panel=DEVICES,
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on. Whoever reaches it can use the servers.",
            rich_help_panel=_NETWORK,
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(
            help="First port; the others follow it. 0 takes free ones.", rich_help_panel=_NETWORK
        ),
    ] = 8000,
    mode: Annotated[
        str | None,
        typer.Option(
            help="Of the server triton: leader, orchestrator or instances. [default: leader]",
            rich_help_panel=ENGINE,
        ),
    ] = None,
    proxy: Annotated[
        str | None,
        typer.Option(
            help="nginx: one port for all, the least busy server first.", rich_help_panel=_NETWORK
        ),
    ] = None,
    deterministic: Annotated[
        bool,
        typer.Option(
            "--deterministic",
            help="Every request is greedy or has a seed: NGINX may send one that a dead server "
            "had begun to another.",
            rich_help_panel=_NETWORK,
        ),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder for logs. [default: servers/<UTC time>]", rich_help_panel=OUTPUT),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print files and commands; start nothing.", rich_help_panel=OUTPUT
        ),
    ] = False,
    plain: Annotated[
        bool,
        typer.Option(
            "--plain", help="Print lines instead of a live table.", rich_help_panel=OUTPUT
        ),
    ] = False,
    load_seconds: Annotated[
        float,
        typer.Option(
            help="Restart a server that takes longer than this to load.",
            rich_help_panel=RELIABILITY,
        ),
    ] = 1800.0,
    silent_seconds: Annotated[
        float,
        typer.Option(
            help="Restart a server that does not say for this long that it is well.",
            rich_help_panel=RELIABILITY,
        ),
    ] = 60.0,
    max_restarts: Annotated[
        int,
        typer.Option(
            min=0,
            help="Give a server up after this many restarts in a row.",
            rich_help_panel=RELIABILITY,
        ),
    ] = 5,
) -> None:
    """Start servers of OpenAI's API, each on its own devices, and keep them running until Ctrl-C.

    The endpoints are printed once all can be used. Words after -- are added to each server's command.
    """
    from trt_dp.display.serve import on_stderr
    from trt_dp.placement.machine import look
    from trt_dp.serving import serve as serving
    from trt_dp.serving.launch import as_shell
    from trt_dp.serving.layout import Asked, layout, proxy_named
    from trt_dp.serving.post import Limits
    from trt_dp.serving.servers import Wish

    asked = Asked(
        server=server,
        wish=Wish(
            model=model,
            served_name=served_model_name,
            program=program,
            batch_size=batch_size,
            context=context,
            engine=engine,
            options=key_values.parse(set_),
            words=ctx.obj,
        ),
        folder=output or new_folder(),
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
    with on_stderr(plain_=plain) as display:
        serving.serve(found, limits, display, lambda it: typer.echo("\n".join(it.endpoints)))
