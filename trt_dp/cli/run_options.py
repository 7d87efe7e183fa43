"""The options of run, but for sampling: requests, engine, devices, order, output, and limits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trt_dp.cli.help import DEVICES, ENGINE, HOSTS, INPUT, ORDER, OUTPUT, RELIABILITY

if TYPE_CHECKING:
    from trt_dp.dataset.reading import Reading

DEFAULT_REQUESTS = "datasets/synthetic_2048_128.jsonl"
Requests = Annotated[
    list[str] | None,
    typer.Argument(
        help="Files of requests, folders, globs, or - for stdin. "
        "[default: datasets/synthetic_2048_128.jsonl]",
        show_default=False,
    ),
]
RequestPath = Annotated[
    list[str] | None,
    typer.Option(help="The same as REQUESTS. Repeatable.", rich_help_panel=INPUT),
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        help="Format of the requests; trt-dp plugins lists the readers. [default: recognised]",
        rich_help_panel=INPUT,
    ),
]
PromptColumn = Annotated[
    str | None,
    typer.Option(help="Column of a table that holds text.", rich_help_panel=INPUT),
]
MessagesColumn = Annotated[
    str | None,
    typer.Option(help="Column of a table that holds chat messages.", rich_help_panel=INPUT),
]
IdsColumn = Annotated[
    str | None,
    typer.Option(help="Column of a table that holds token ids.", rich_help_panel=INPUT),
]
IdColumn = Annotated[
    str | None,
    typer.Option(help="Column of a table that names the requests.", rich_help_panel=INPUT),
]
SkipBad = Annotated[
    bool,
    typer.Option(
        "--skip-bad",
        help="Skip invalid lines. Each becomes a failure with its reason.",
        rich_help_panel=INPUT,
    ),
]
EnginePath = Annotated[
    Path | None,
    typer.Option(help="Folder of the engine. [default: engines/default]", rich_help_panel=ENGINE),
]
Engine = Annotated[
    str | None,
    typer.Option(
        help="Name of the engine; trt-dp plugins lists them. [default: found from the folder]",
        rich_help_panel=ENGINE,
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Set an option of the engine. Repeatable.",
        rich_help_panel=ENGINE,
    ),
]
Endpoint = Annotated[
    list[str] | None,
    typer.Option(
        metavar="URL",
        help="A server to send requests to, with --engine openai or triton. Repeatable.",
        rich_help_panel=ENGINE,
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        help="Name of the model on the servers. [default: the one they have]",
        rich_help_panel=ENGINE,
    ),
]
Plan = Annotated[
    bool,
    typer.Option(
        "--plan",
        help="Show what the run needs and which worker gets what, and stop before anything is loaded.",
    ),
]
NWorkers = Annotated[
    int | None,
    typer.Option(
        help="Worker processes. [default: as many as the GPUs allow; 2 on a CPU]",
        rich_help_panel=DEVICES,
    ),
]
NGpus = Annotated[
    int | None,
    typer.Option(
        help="GPUs for each worker; CPU cores on a machine without a GPU. [default: 1]",
        rich_help_panel=DEVICES,
    ),
]
WorkersPerGpu = Annotated[
    int, typer.Option(help="Workers that share each GPU.", rich_help_panel=DEVICES)
]
Launcher = Annotated[
    str | None,
    typer.Option(
        help="How workers start: local, mpi, ssh, slurm, ray, mpi-hosts, by-hand, or inline for debugging. "
        "[default: local; ssh with --hosts]",
        rich_help_panel=DEVICES,
    ),
]
Hosts = Annotated[
    str | None,
    typer.Option(
        help="Machines to run workers on, separated by commas.",
        rich_help_panel=HOSTS,
    ),
]
LauncherSet = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=VALUE",
        help="Set an option of the launcher. Repeatable.",
        rich_help_panel=HOSTS,
    ),
]
KeyFile = Annotated[
    str | None,
    typer.Option(
        help="File for the key of the run, for trt-dp agent --key-file. [by-hand]",
        rich_help_panel=HOSTS,
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        help="Address at which hosts reach this machine. [default: the one that leads to them]",
        rich_help_panel=HOSTS,
    ),
]
Port = Annotated[int, typer.Option(help="Port for hosts; 0 chooses one.", rich_help_panel=HOSTS)]
HostSeconds = Annotated[
    float,
    typer.Option(
        help="Stop the run, to be resumed, after this long with fewer than --min-workers.",
        rich_help_panel=HOSTS,
    ),
]
MinWorkers = Annotated[
    int, typer.Option(help="Fewest workers with which a run continues.", rich_help_panel=HOSTS)
]
AllowFewerWorkers = Annotated[
    bool,
    typer.Option(
        "--allow-fewer-workers",
        help="Run with fewer workers where some do not fit or cannot load the engine; with lockstep=true also "
        "where one dies too often. [default: stop]",
        rich_help_panel=DEVICES,
    ),
]
Order = Annotated[
    str,
    typer.Option(
        help="Which requests go first: auto, file, longest, lanes or prefix. Results are the same.",
        rich_help_panel=ORDER,
    ),
]
LengthsFrom = Annotated[
    Path | None,
    typer.Option(
        metavar="RUN",
        help="Folder of an earlier run of this dataset; answers are expected to be as long as there.",
        rich_help_panel=ORDER,
    ),
]
Speculate = Annotated[
    bool,
    typer.Option(
        "--speculate",
        help="Near the end, idle workers try copies of requests that slow ones have; the first answer counts. "
        "For engines whose answers do not depend on what runs with them: cpu (exact), echo.",
        rich_help_panel=ORDER,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        help="Folder for results. Reuse it to resume a run. [default: runs/<UTC time>]",
        rich_help_panel=OUTPUT,
    ),
]
Fresh = Annotated[
    bool,
    typer.Option(
        "--fresh",
        help="Delete an earlier run in the folder and start over.",
        rich_help_panel=OUTPUT,
    ),
]
Detokenize = Annotated[
    bool,
    typer.Option(
        "--detokenize",
        help="Write answers to token ids as text as well.",
        rich_help_panel=OUTPUT,
    ),
]
OutputFormat = Annotated[
    str | None,
    typer.Option(
        help="Write the answers in this format too: text (to stdout), jsonl, csv, parquet or openai.",
        rich_help_panel=OUTPUT,
    ),
]
NoTiming = Annotated[
    bool,
    typer.Option(
        "--no-timing",
        help="Write results without worker and timing, so that they are the same in every run.",
        rich_help_panel=OUTPUT,
    ),
]
Plain = Annotated[
    bool,
    typer.Option(
        "--plain",
        help="Print a line now and then instead of a live view.",
        rich_help_panel=OUTPUT,
    ),
]
PricePerGpuHour = Annotated[
    float | None,
    typer.Option(
        help="Price of one GPU for an hour; the report then says what the run cost.",
        rich_help_panel=OUTPUT,
    ),
]
MetricsPort = Annotated[
    int | None,
    typer.Option(
        help="Serve Prometheus metrics on this port; 0 chooses one.", rich_help_panel=OUTPUT
    ),
]
MetricsHost = Annotated[
    str,
    typer.Option(
        help="Address for metrics. Anybody who reaches it can read them.",
        rich_help_panel=OUTPUT,
    ),
]
StallSeconds = Annotated[
    float,
    typer.Option(
        help="Restart a worker that shows no sign of life for this long.",
        rich_help_panel=RELIABILITY,
    ),
]
StartSeconds = Annotated[
    float,
    typer.Option(
        help="Restart a worker that takes longer than this to connect.",
        rich_help_panel=RELIABILITY,
    ),
]
LoadSeconds = Annotated[
    float,
    typer.Option(
        help="Restart a worker that takes longer than this to load its engine.",
        rich_help_panel=RELIABILITY,
    ),
]
AnswerSeconds = Annotated[
    float,
    typer.Option(
        help="Restart a worker that has requests in flight and answers none for this long.",
        rich_help_panel=RELIABILITY,
    ),
]
PausedSeconds = Annotated[
    float,
    typer.Option(
        help="End the run, to be resumed, when no worker takes requests for this long: all servers are gone.",
        rich_help_panel=RELIABILITY,
    ),
]
MaxRestarts = Annotated[
    int,
    typer.Option(
        help="Deaths in a row without an answer before a worker is retired.",
        rich_help_panel=RELIABILITY,
    ),
]
GraceSeconds = Annotated[
    float,
    typer.Option(
        help="After Ctrl-C, wait up to this long for requests in flight.",
        rich_help_panel=RELIABILITY,
    ),
]


def reading(
    requests: list[str] | None,
    request_path: list[str] | None,
    format_: str | None,
    *,
    prompt_column: str | None,
    messages_column: str | None,
    ids_column: str | None,
    id_column: str | None,
) -> Reading:
    """What the options of a command ask to be read."""
    from trt_dp.dataset.reading import Reading

    return Reading(
        inputs=(*(requests or ()), *(request_path or ())) or (DEFAULT_REQUESTS,),
        format=format_,
        prompt_column=prompt_column,
        messages_column=messages_column,
        ids_column=ids_column,
        id_column=id_column,
    )
