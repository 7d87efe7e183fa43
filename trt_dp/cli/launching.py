"""The launcher that a user asks for, and its options: --hosts and --key-file are spellings of --launcher-set."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TypedDict

import typer
from msgspec import Struct

from trt_dp.cli import key_values
from trt_dp.errors import UsageError
from trt_dp.system.safe_text import plain


class Launching(TypedDict):
    """The launcher and its options."""

    launcher: str
    launcher_options: dict[str, str]


class Asking(Struct, frozen=True, kw_only=True):
    """The flags of a command that only says who would run where."""

    launcher: str | None
    hosts: str | None
    launcher_set: list[str] | None
    key_file: str | None
    address: str | None
    port: int
    host_seconds: float
    engine_path: str = ""
    n_workers: int | None = None
    n_gpus: int | None = None
    workers_per_gpu: int = 1

    @property
    def asked(self) -> bool:
        """Whether anybody asked."""
        return bool(self.launcher or self.hosts or self.key_file)


def settings(
    launcher: str | None, hosts: str | None, key_file: str | None, more: list[str] | None
) -> Launching:
    """What the flags ask for together."""
    named = {"hosts": hosts, "key_file": key_file}
    given = {name: value for name, value in named.items() if value is not None}
    default = "by-hand" if key_file else "ssh" if hosts else "local"
    return Launching(
        launcher=launcher or default,
        launcher_options={**given, **key_values.parse(more, "--launcher-set")},
    )


def submitted(asked: Launching) -> str | None:
    """What a user must know if the launcher has this command run as a job of a scheduler; None if it runs here."""
    from trt_dp import plugins

    launcher = plugins.find(plugins.LAUNCHERS, asked["launcher"])
    submit = getattr(launcher, "submit", None)
    if submit is None:
        return None
    told: str | None = submit(
        sys.argv[1:], **plugins.convert(launcher, asked["launcher_options"], "--launcher-set")
    )
    return told


def show_places(ask: Asking) -> None:
    """Print who would run where."""
    from trt_dp.coordinator.survey import Ask, survey
    from trt_dp.placement.on_hosts import Wish

    wish = Wish(
        workers=ask.n_workers,
        gpus_per_worker=ask.n_gpus,
        workers_per_gpu=ask.workers_per_gpu,
        needs_gpu=_needs_gpu(ask.engine_path),
    )
    launching = settings(ask.launcher, ask.hosts, ask.key_file, ask.launcher_set)
    survey(
        Ask(
            launcher=launching["launcher"],
            options=launching["launcher_options"],
            wish=wish,
            address=ask.address,
            port=ask.port,
            seconds=ask.host_seconds,
        ),
        lambda text: typer.echo(plain(text)),
    )


def _needs_gpu(engine_path: str) -> bool:
    """Whether the engine of this folder needs a GPU; not for a checkpoint that several engines could run."""
    from trt_dp.coordinator.reception import needs_gpu
    from trt_dp.engines.choose import recognise

    if engine_path:
        with contextlib.suppress(UsageError):
            return needs_gpu(recognise(Path(engine_path)))
    return False
