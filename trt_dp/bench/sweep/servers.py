"""Starts the servers of a setting from a command line, each on devices of its own, and stops them again."""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from trt_dp.bench.sweep.grid import Setting
from trt_dp.errors import TrtDpError, UsageError
from trt_dp.placement.environment import clean
from trt_dp.placement.machine import Machine
from trt_dp.placement.plan import plan
from trt_dp.system.guarded import Guarded
from trt_dp.types import Placement
from trt_dp.web import Client, Exchange, Limits, Target, target

_HOST = "127.0.0.1"
_LOOK_SECONDS = 0.25
_ANSWER_SECONDS = 5.0
_STOP_SECONDS = 60.0
_LAST_LINES = 12


class Commands(Struct, frozen=True, kw_only=True):
    """The words that start one server, in which `{port}`, `{tp}` and the like stand for a setting's own."""

    words: list[str]
    machine: Machine
    start_seconds: float = 1800.0

    @contextlib.contextmanager
    def start(self, setting: Setting, folder: Path) -> Iterator[list[str]]:
        """The URLs of `dp` servers once all answer; they end with this block, or with this process."""
        folder.mkdir(parents=True, exist_ok=True)
        running: list[_Server] = []
        try:
            for placement in plan(self.machine, setting.dp, setting.tp).placements:
                running += [_start(self.words, setting, placement, folder)]
            _wait(running, self.start_seconds)
            yield [str(server.to) for server in running]
        finally:
            _stop(running)


def check(words: Sequence[str]) -> None:
    """Refuse a command line that could not serve several settings."""
    if not any("{port}" in word for word in words):
        msg = "give the command that starts a server after --, with {port} where its port belongs"
        raise UsageError(msg)


def as_typed(words: Sequence[str], setting: Setting, machine: Machine, port: int) -> str:
    """The command lines that start the servers of a setting by hand, on ports from this one on."""
    placements = plan(machine, setting.dp, setting.tp).placements
    return "\n".join(_typed(words, setting, one, port + one.worker) for one in placements)


def _typed(words: Sequence[str], setting: Setting, placement: Placement, port: int) -> str:
    line = shlex.join(command(words, setting, placement.worker, port))
    if placement.cores:
        return f"taskset -c {','.join(map(str, placement.cores))} {line}"
    return f"CUDA_VISIBLE_DEVICES={','.join(placement.devices)} {line}"


def command(words: Sequence[str], setting: Setting, number: int, port: int) -> list[str]:
    """The words of one server; other braces stay as they are."""
    values = {"port": port, "tp": setting.tp, "dp": setting.dp, "batch_size": setting.batch_size}
    values["number"] = number
    return [_filled(word, values) for word in words]


def _filled(word: str, values: dict[str, int]) -> str:
    for name, value in values.items():
        word = word.replace(f"{{{name}}}", str(value))
    return word


class _Server(Struct, frozen=True, kw_only=True):
    to: Target
    process: Guarded
    log: Path


def _start(words: Sequence[str], setting: Setting, placement: Placement, folder: Path) -> _Server:
    port, log = _free_port(), folder / f"server-{placement.worker}.log"
    line = command(words, setting, placement.worker, port)
    log.write_text(f"$ {shlex.join(line)}\n")
    environment = {**clean(os.environ), **placement.environment}
    process = Guarded(line, environment, placement.cores, log)
    return _Server(to=target(f"http://{_HOST}:{port}/v1"), process=process, log=log)


def _free_port() -> int:
    with socket.create_server((_HOST, 0)) as found:
        return int(found.getsockname()[1])


def _wait(running: Sequence[_Server], seconds: float) -> None:
    """Until every server tells its models; raises TrtDpError if one ends before, or takes too long."""
    until = time.monotonic() + seconds
    with Client() as client:
        for server in running:
            while not _answers(client, server.to):
                if ended := [one for one in running if one.process.poll() is not None]:
                    raise TrtDpError(_told("a server ended before it answered", ended[0]))
                if time.monotonic() > until:
                    raise TrtDpError(_told(f"a server did not answer within {seconds:g} s", server))
                time.sleep(_LOOK_SECONDS)


def _answers(client: Client, to: Target) -> bool:
    limits = Limits(connect_seconds=_ANSWER_SECONDS, total_seconds=_ANSWER_SECONDS)
    client.submit(Exchange(to=to, path="/models", method="GET", limits=limits))
    while not (replies := client.poll(_LOOK_SECONDS)):
        pass
    return replies[0].ok


def _told(what: str, server: _Server) -> str:
    lines = server.log.read_text(errors="replace").splitlines()[-_LAST_LINES:]
    return f"{what}; {server.log} ends with:\n  " + "\n  ".join(lines)


def _stop(running: Sequence[_Server]) -> None:
    """End all of them and whatever they started."""
    for server in running:
        server.process.kill()
    until = time.monotonic() + _STOP_SECONDS
    for server in running:
        while server.process.poll() is None and time.monotonic() < until:
            time.sleep(_LOOK_SECONDS / 10)
