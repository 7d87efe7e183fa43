"""Starts the servers of a setting, each on devices of its own, and stops them again."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec import Struct

from trt_dp.bench.sweep.grid import Setting
from trt_dp.errors import NoServersLeft, PlacementError, TrtDpError, UsageError
from trt_dp.placement.plan import plan
from trt_dp.serving import neuron, ports
from trt_dp.serving.fleet import Fleet
from trt_dp.serving.launch import Launch, Layout
from trt_dp.serving.layout import Asked, layout
from trt_dp.serving.post import Limits
from trt_dp.system.machine import Machine
from trt_dp.types import Placement

_HOST = "127.0.0.1"
_LOOK_SECONDS = 0.2
_LAST_LINES = 8


class Kind(Protocol):
    """One kind of server, which can be laid out in any setting."""

    def layout(self, setting: Setting, folder: Path) -> Layout:
        """What to start; raises PlacementError where there are too few devices."""

    def typed(self, setting: Setting) -> str:
        """The command lines that start this setting by hand."""

    def words(self) -> list[str]:
        """What tells it from another kind."""


@contextlib.contextmanager
def running(
    kind: Kind, start_seconds: float, setting: Setting, folder: Path
) -> Iterator[list[str]]:
    """The URLs of the servers once all can be used; they end with this block, or with this process."""
    folder.mkdir(parents=True, exist_ok=True)
    limits = Limits(load_seconds=start_seconds, max_restarts=0)
    with Fleet(kind.layout(setting, folder), limits) as fleet:
        while not fleet.ready:
            _look(fleet)
        yield list(fleet.layout.endpoints)


def _look(fleet: Fleet) -> None:
    """Raise TrtDpError once one of the servers has ended: a setting is measured with all of them or not at all."""
    with contextlib.suppress(NoServersLeft):  # told below, with the end of a log
        fleet.tick(_LOOK_SECONDS)
    for view in fleet.views():
        if view.state == "retired":
            lines = view.launch.log.read_text(errors="replace").splitlines()[-_LAST_LINES:]
            told = f"{view.launch.name} ended: {view.reason}; {view.launch.log} ends with:"
            raise TrtDpError("\n  ".join([told, *lines]))


def fits(kind: Kind, setting: Setting, folder: Path) -> bool:
    """Whether there are enough devices."""
    try:
        kind.layout(setting, folder)
    except PlacementError:
        return False
    return True


class Known(Struct, frozen=True, kw_only=True):
    """Servers that `trt-dp serve` starts; a setting replaces their number, devices and batch size."""

    asked: Asked
    machine: Machine

    def layout(self, setting: Setting, folder: Path) -> Layout:
        """As `trt-dp serve` would start them, on free ports."""
        _check_cores(self.machine, self.asked.neuron_cores, setting)
        wish = msgspec.structs.replace(self.asked.wish, batch_size=setting.batch_size)
        asked = msgspec.structs.replace(
            self.asked, wish=wish, folder=folder, workers=setting.dp, gpus_per_worker=setting.tp
        )
        return layout(msgspec.structs.replace(asked, port=0, host=_HOST), self.machine)

    def typed(self, setting: Setting) -> str:
        """The command line of `trt-dp serve`."""
        wish, cores = self.asked.wish, self.asked.neuron_cores
        words = ["trt-dp", "serve", *([wish.model] if wish.model else [])]
        words += [
            "--server",
            self.asked.server,
            *(["--engine", wish.engine] if wish.engine else []),
        ]
        words += [
            word for key, value in wish.options.items() for word in ("--set", f"{key}={value}")
        ]
        words += ["--program", wish.program] if wish.program else []
        words += ["--context", str(wish.context)] if wish.context else []
        words += ["--neuron-cores", cores] if cores else []
        words += ["--n-workers", str(setting.dp), "--n-gpus", str(setting.tp)]
        words += ["--batch-size", str(setting.batch_size)]
        return shlex.join([*words, *(["--", *wish.words] if wish.words else [])])

    def words(self) -> list[str]:
        """The command line without a setting's own numbers."""
        return shlex.split(self.typed(Setting(0, 0, 0)))


class Commands(Struct, frozen=True, kw_only=True):
    """Servers that a command line starts, in which `{port}`, `{tp}` and the like stand for a setting's own."""

    command: list[str]
    machine: Machine
    neuron_cores: str | None = None

    def layout(self, setting: Setting, folder: Path) -> Layout:
        """Each on a free port."""
        placements = self._placements(setting)
        given = ports.take(_HOST, 0, len(placements))
        pairs = zip(placements, given, strict=True)
        return Layout(
            launches=tuple(self._launch(setting, one, port, folder) for one, port in pairs)
        )

    def typed(self, setting: Setting) -> str:
        """One line for each server, on ports from 8000 on."""
        lines = []
        for one in self._placements(setting):
            words = filled(self.command, setting, one.worker, 8000 + one.worker)
            pinned = ["taskset", "-c", ",".join(map(str, one.cores))] if one.cores else []
            named = [f"{name}={value}" for name, value in one.environment.items() if one.devices]
            lines.append(shlex.join([*(["env", *named] if named else []), *pinned, *words]))
        return "\n".join(lines)

    def words(self) -> list[str]:
        """The command as it was given."""
        return self.command

    def _placements(self, setting: Setting) -> Sequence[Placement]:
        _check_cores(self.machine, self.neuron_cores, setting)
        if self.neuron_cores is not None:
            return neuron.plan(self.neuron_cores, setting.dp, setting.tp).placements
        return plan(self.machine, setting.dp, setting.tp).placements

    def _launch(self, setting: Setting, placement: Placement, port: int, folder: Path) -> Launch:
        url = f"http://{_HOST}:{port}/v1"
        return Launch(
            name=f"server-{placement.worker}",
            url=url,
            where=",".join(placement.devices) or "CPU",
            health=f"{url}/models",
            command=tuple(filled(self.command, setting, placement.worker, port)),
            environment=placement.environment,
            cores=placement.cores,
            folder=folder,
        )


def check(command: Sequence[str]) -> None:
    """Refuse a command line that could not serve several settings."""
    if not any("{port}" in word for word in command):
        msg = (
            "name servers with --server, or give the command that starts one after --, "
            "with {port} where its port belongs"
        )
        raise UsageError(msg)


def filled(command: Sequence[str], setting: Setting, number: int, port: int) -> list[str]:
    """The words of one server; other braces stay as they are."""
    values = {"port": port, "tp": setting.tp, "dp": setting.dp, "batch_size": setting.batch_size}
    values["number"] = number
    found = []
    for word in command:
        for name, value in values.items():
            word = word.replace(f"{{{name}}}", str(value))  # noqa: PLW2901 - filled in step by step
        found.append(word)
    return found


def _check_cores(machine: Machine, neuron_cores: str | None, setting: Setting) -> None:
    """On a CPU servers may share cores, which would measure how they disturb each other."""
    if neuron_cores is None and not machine.gpus and setting.devices > len(machine.cores):
        msg = f"{setting.name} needs {setting.devices} cores, and there are {len(machine.cores)}"
        raise PlacementError(msg)
