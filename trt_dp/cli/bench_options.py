"""The options of bench and sweep: servers, load, lengths, output."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trt_dp.cli.help import ARRIVALS, INPUT, LENGTHS, OUTPUT, RELIABILITY, SERVERS
from trt_dp.system.extras import pip_install

Endpoint = Annotated[
    list[str],
    typer.Option(
        metavar="URL", help="A server, with or without /v1. Repeatable.", rich_help_panel=SERVERS
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        help="The model's name on the servers. [default: the one they have]",
        rich_help_panel=SERVERS,
    ),
]
KeyEnv = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Environment variable that holds the API key. [default: OPENAI_API_KEY, where it is safe]",
        rich_help_panel=SERVERS,
    ),
]
Chat = Annotated[
    bool,
    typer.Option(
        "--chat", help="Ask /chat/completions instead of /completions.", rich_help_panel=SERVERS
    ),
]
Body = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=VALUE",
        help="Add a field to every request; VALUE is JSON or else a string. Repeatable.",
        rich_help_panel=SERVERS,
    ),
]
StopAtEos = Annotated[
    bool,
    typer.Option(
        "--stop-at-eos",
        help="Do not send ignore_eos: answers may be shorter. For servers that do not know it.",
        rich_help_panel=SERVERS,
    ),
]
Tokenizer = Annotated[
    str | None,
    typer.Option(
        metavar="DIR",
        help="Send text of exact length by this tokenizer. [default: send ids]",
        rich_help_panel=INPUT,
    ),
]
VocabSize = Annotated[
    int,
    typer.Option(help="Without --tokenizer: draw ids from 3 to below this.", rich_help_panel=INPUT),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        help="Requests in flight for each of --dp. [default: 1]", rich_help_panel=ARRIVALS
    ),
]
Dp = Annotated[
    int | None,
    typer.Option(
        help="Copies of the model behind the endpoints. [default: one for each endpoint]",
        rich_help_panel=ARRIVALS,
    ),
]
RequestRate = Annotated[
    float | None,
    typer.Option(
        help="Send this many requests per second instead (Poisson), however many are in flight.",
        rich_help_panel=ARRIVALS,
    ),
]
MaxRequests = Annotated[int, typer.Option(help="Requests to measure.", rich_help_panel=ARRIVALS)]
Warmup = Annotated[
    int,
    typer.Option(help="Requests to send first, without measuring them.", rich_help_panel=ARRIVALS),
]
Seed = Annotated[
    int, typer.Option(help="Seed of lengths, words and arrivals.", rich_help_panel=LENGTHS)
]
InputMean = Annotated[int, typer.Option(help="Mean prompt length.", rich_help_panel=LENGTHS)]
InputStdev = Annotated[
    int, typer.Option(help="Standard deviation of prompt lengths.", rich_help_panel=LENGTHS)
]
OutputMean = Annotated[int, typer.Option(help="Mean answer length.", rich_help_panel=LENGTHS)]
OutputStdev = Annotated[
    int, typer.Option(help="Standard deviation of answer lengths.", rich_help_panel=LENGTHS)
]
AnswerSeconds = Annotated[
    float,
    typer.Option(
        help="A request fails if nothing comes for this long.", rich_help_panel=RELIABILITY
    ),
]
ResultsDir = Annotated[
    Path | None,
    typer.Option(
        help="Folder for results. [default: runs/bench-<UTC time>]", rich_help_panel=OUTPUT
    ),
]
Fresh = Annotated[
    bool,
    typer.Option("--fresh", help="Replace results in the folder.", rich_help_panel=OUTPUT),
]


def check_installed() -> None:
    """Refuse to start without the library that reads HTTP."""
    import importlib.util

    from trt_dp.errors import UsageError

    if importlib.util.find_spec("httptools") is None:
        msg = f"this needs a library that is not installed: {pip_install('openai')}"
        raise UsageError(msg)
