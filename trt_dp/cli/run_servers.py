"""Servers that run starts for itself: its options for them, and what it is told in their place."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import Struct

from trt_dp.cli.help import ENGINE
from trt_dp.cli.serve_options import new_folder
from trt_dp.errors import UsageError

if TYPE_CHECKING:
    from trt_dp.serving.layout import Asked

Serve = Annotated[
    str | None,
    typer.Option(
        metavar="SERVER",
        help="Start servers of this kind (vllm, trtllm, sglang, cpu) for the engine openai, and end "
        "them after the run. --engine-path or --model is what they serve.",
        rich_help_panel=ENGINE,
    ),
]
ServeWords = Annotated[
    str | None,
    typer.Option(
        metavar="WORDS",
        help="Words to add to the command of each of these servers.",
        rich_help_panel=ENGINE,
    ),
]


class Choice(Struct, frozen=True, kw_only=True):
    """What run is told of its engine and its devices; servers that it starts take most of it."""

    engine: str | None
    engine_path: Path | None
    model: str | None
    endpoints: list[str] | None
    workers: int | None
    gpus_per_worker: int | None
    workers_per_gpu: int


@contextlib.contextmanager
def started(
    server: str | None, words: str | None, choice: Choice, say: Callable[[str], None]
) -> Iterator[Choice]:
    """What the run is told in place of this, while its servers run; the same where none are asked for."""
    if server is None:
        if words is not None:
            msg = "--serve-words is for servers that --serve starts"
            raise UsageError(msg)
        yield choice
        return
    _check(choice)
    from trt_dp.placement.machine import look
    from trt_dp.serving.during import served
    from trt_dp.serving.layout import layout
    from trt_dp.serving.post import Limits

    with served(layout(_asked(server, words, choice), look()), Limits(), say) as endpoints:
        yield Choice(
            engine="openai",
            engine_path=None,
            model=None,
            endpoints=list(endpoints),
            workers=None,
            gpus_per_worker=None,
            workers_per_gpu=1,
        )


def _asked(server: str, words: str | None, choice: Choice) -> Asked:
    from trt_dp.serving.layout import Asked
    from trt_dp.serving.servers import Wish

    named = choice.model if choice.engine_path is None else str(choice.engine_path)
    return Asked(
        server=server,
        wish=Wish(model=named, words=_split(words)),
        folder=new_folder(),
        workers=choice.workers,
        gpus_per_worker=choice.gpus_per_worker,
        workers_per_gpu=choice.workers_per_gpu,
        port=0,
    )


def _check(choice: Choice) -> None:
    """Raises UsageError for options of run that contradict --serve."""
    if choice.engine not in (None, "openai"):
        msg = f"--serve is for the engine openai, not {choice.engine}"
        raise UsageError(msg)
    if choice.endpoints:
        msg = "--serve starts the servers, and --endpoint names others: remove one of them"
        raise UsageError(msg)
    if choice.engine_path is not None and choice.model is not None:
        msg = "--serve serves one model: give --engine-path or --model"
        raise UsageError(msg)


def _split(words: str | None) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(words or ""))
    except ValueError as error:
        msg = f"--serve-words cannot be split into words: {error}"
        raise UsageError(msg) from error
