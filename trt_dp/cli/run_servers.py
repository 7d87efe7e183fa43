"""Servers that run starts for itself: its options for them, and what it is told in their place."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import Struct

from trt_dp.cli import key_values
from trt_dp.cli.help import ENGINE
from trt_dp.cli.serve_options import new_folder
from trt_dp.errors import UsageError

if TYPE_CHECKING:
    from trt_dp.serving.layout import Asked

Serve = Annotated[
    str | None,
    typer.Option(
        metavar="SERVER",
        help="Start servers of this kind (vllm, trtllm, sglang, cpu) for the engine openai, or triton for "
        "its own, and end them after the run. --engine-path or --model is what they serve.",
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
ServeSet = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=VALUE",
        help="Set an option of these servers, as --set of trt-dp serve does. Repeatable.",
        rich_help_panel=ENGINE,
    ),
]
_TRITON = "triton"
_ENGINES = {_TRITON: ("triton", "triton-text")}  # for the servers of others: openai


class Servers(Struct, frozen=True, kw_only=True):
    """Which servers run is to start."""

    kind: str | None
    words: str | None = None
    options: list[str] | None = None


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
def started(servers: Servers, choice: Choice, say: Callable[[str], None]) -> Iterator[Choice]:
    """What the run is told in place of this, while its servers run; the same where none are asked for."""
    if servers.kind is None:
        if servers.words is not None or servers.options:
            msg = "--serve-words and --serve-set are for servers that --serve starts"
            raise UsageError(msg)
        yield choice
        return
    engines = _ENGINES.get(servers.kind, ("openai",))
    _check(engines, choice)
    from trt_dp.placement.machine import look
    from trt_dp.serving.during import served
    from trt_dp.serving.layout import layout
    from trt_dp.serving.post import Limits

    with served(layout(_asked(servers, choice), look()), Limits(), say) as endpoints:
        engine = choice.engine or engines[0]
        yield Choice(
            engine=engine,
            engine_path=choice.engine_path if engine == _TRITON else None,  # its tokenizer and EOS
            model=None,
            endpoints=list(endpoints),
            workers=None,
            gpus_per_worker=None,
            workers_per_gpu=1,
        )


def _asked(servers: Servers, choice: Choice) -> Asked:
    from trt_dp.serving.layout import Asked
    from trt_dp.serving.servers import Wish

    named = choice.model if choice.engine_path is None else str(choice.engine_path)
    options = key_values.parse(servers.options, "--serve-set")
    return Asked(
        server=servers.kind or "",
        wish=Wish(model=named, words=_split(servers.words), options=options),
        folder=new_folder(),
        workers=choice.workers,
        gpus_per_worker=choice.gpus_per_worker,
        workers_per_gpu=choice.workers_per_gpu,
        port=0,
        for_run=True,
    )


def _check(engines: Sequence[str], choice: Choice) -> None:
    """Raises UsageError for options of run that contradict --serve."""
    if choice.engine not in (None, *engines):
        msg = f"--serve is for the engine {' or '.join(engines)}, not {choice.engine}"
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
