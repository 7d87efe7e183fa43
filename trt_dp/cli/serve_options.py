"""The options of serve, and those that sweep shares with it: what is served, on which devices, at which address."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trt_dp.cli.help import DEVICES, ENGINE, NETWORK, OUTPUT, RELIABILITY

Model = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL",
        help="Folder of a model or engine, or a name that the server can fetch.",
        show_default=False,
    ),
]
Server = Annotated[
    str,
    typer.Option(
        help="vllm, trtllm, sglang, triton, or cpu: trt-dp's own, for tests and small use. "
        "trt-dp plugins lists them.",
        rich_help_panel=ENGINE,
    ),
]
Engine = Annotated[
    str | None,
    typer.Option(
        help="Engine of the server cpu. [default: found from the folder]", rich_help_panel=ENGINE
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Set an option of that engine. Repeatable.",
        rich_help_panel=ENGINE,
    ),
]
ServedModelName = Annotated[
    str | None, typer.Option(help="What clients call the model.", rich_help_panel=ENGINE)
]
BatchSize = Annotated[
    int | None,
    typer.Option(min=1, help="Most requests in flight in each server.", rich_help_panel=ENGINE),
]
Context = Annotated[
    int | None,
    typer.Option(min=1, help="Most tokens of prompt and answer together.", rich_help_panel=ENGINE),
]
Program = Annotated[
    str | None,
    typer.Option(
        help="The server's program where it is not on PATH, such as .venv-vllm/bin/vllm.",
        rich_help_panel=ENGINE,
    ),
]
Mode = Annotated[
    str | None,
    typer.Option(
        help="Of the server triton: leader, orchestrator or instances. [default: leader]",
        rich_help_panel=ENGINE,
    ),
]
NWorkers = Annotated[
    int | None,
    typer.Option(
        help="Servers. [default: as many as the GPUs allow; 2 on a CPU]", rich_help_panel=DEVICES
    ),
]
NGpus = Annotated[
    int | None,
    typer.Option(
        help="GPUs, or NeuronCores, among which each server divides its model; "
        "CPU cores on a machine without a GPU. [default: 1 GPU]",
        rich_help_panel=DEVICES,
    ),
]
WorkersPerGpu = Annotated[
    int, typer.Option(help="Servers that share each GPU.", rich_help_panel=DEVICES)
]
NeuronCores = Annotated[
    str | None,
    typer.Option(
        metavar="FIRST-LAST",
        help="NeuronCores to divide among the servers instead of GPUs.",
        rich_help_panel=DEVICES,
    ),
]
Host = Annotated[
    str,
    typer.Option(
        help="Address to listen on. Whoever reaches it can use the servers.",
        rich_help_panel=NETWORK,
    ),
]
Port = Annotated[
    int,
    typer.Option(
        help="First port; the others follow it. 0 takes free ones.", rich_help_panel=NETWORK
    ),
]
Proxy = Annotated[
    str | None,
    typer.Option(
        help="nginx: one port for all, the least busy server first.", rich_help_panel=NETWORK
    ),
]
Deterministic = Annotated[
    bool,
    typer.Option(
        "--deterministic",
        help="Every request is greedy or has a seed: NGINX may send one that a dead server "
        "had begun to another.",
        rich_help_panel=NETWORK,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(help="Folder for logs. [default: servers/<UTC time>]", rich_help_panel=OUTPUT),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Print files and commands; start nothing.", rich_help_panel=OUTPUT
    ),
]
Plain = Annotated[
    bool,
    typer.Option("--plain", help="Print lines instead of a live table.", rich_help_panel=OUTPUT),
]
LoadSeconds = Annotated[
    float,
    typer.Option(
        help="Restart a server that takes longer than this to load.", rich_help_panel=RELIABILITY
    ),
]
SilentSeconds = Annotated[
    float,
    typer.Option(
        help="Restart a server that does not say for this long that it is well.",
        rich_help_panel=RELIABILITY,
    ),
]
MaxRestarts = Annotated[
    int,
    typer.Option(
        min=0,
        help="Give a server up after this many restarts in a row.",
        rich_help_panel=RELIABILITY,
    ),
]


def new_folder() -> Path:
    """Where the logs of servers go."""
    from datetime import datetime, timezone

    return Path("servers") / datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")
