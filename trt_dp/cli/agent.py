"""The command agent: lets this machine take part in a run of another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = """
trt-dp agent --key-file /shared/run.key                         # where the coordinator wrote it
trt-dp agent --key-file run.key --connect 10.0.0.1:4000         # by another address
"""


def agent(
    key_file: Annotated[
        Path, typer.Option(help="The key of the run, as trt-dp run --key-file wrote it.")
    ],
    connect: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Where the coordinator is. [default: as the key file says]",
        ),
    ] = None,
) -> None:
    """Work on a run of another machine: start workers here, until that run ends.

    The devices are those of CUDA_VISIBLE_DEVICES, or all. There is no rank and no number of nodes to give.
    """
    from msgspec import structs

    from trt_dp.agent.main import serve
    from trt_dp.wire import credentials

    door = credentials.read(key_file)
    serve(structs.replace(door, address=connect) if connect else door)
