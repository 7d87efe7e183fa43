"""The other workers of a machine while one is measured: the same engine at the same work, in processes of their own.

A twin is this module run as a program: it reads what to do from stdin, a line at a time, repeats the latest, and
exits when its stdin ends.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
from collections.abc import Iterator, Sequence

import msgspec
from msgspec import Struct

from trt_dp.simulate.calibrate import Trial, run_trial
from trt_dp.system import safe_files
from trt_dp.types import EngineSpec, Placement
from trt_dp.worker.serve import load

_LEAVE_SECONDS = 30.0


class Order(Struct, frozen=True):
    """What a twin loads, and where."""

    engine: EngineSpec
    placement: Placement


class Twins:
    """Engines beside the one that is measured; each is busy with the latest trial that it was told of."""

    def __init__(self, processes: Sequence[subprocess.Popen[bytes]]) -> None:
        self._processes = processes

    def tell(self, trial: Trial) -> None:
        """Do this from now on."""
        _send(self._processes, msgspec.json.encode(trial))


@contextlib.contextmanager
def twins(engine: EngineSpec, placements: Sequence[Placement]) -> Iterator[Twins]:
    """Load an engine in each of these places, in processes that end with this block."""
    started = [_start(place) for place in placements]
    try:
        for process, place in zip(started, placements, strict=True):
            _send([process], msgspec.json.encode(Order(engine, place)))
        for process in started:
            if process.stdout is not None:
                process.stdout.readline()  # it is loaded, or has ended
        yield Twins(started)
    finally:
        for process in started:
            process.kill()
            process.communicate(timeout=_LEAVE_SECONDS)


def _start(place: Placement) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        safe_files.python("trt_dp.simulate.twin"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **place.environment},
    )


def _send(processes: Sequence[subprocess.Popen[bytes]], line: bytes) -> None:
    for process in processes:
        if process.stdin is not None:
            with contextlib.suppress(
                BrokenPipeError
            ):  # it has ended: what is measured is then its share too
                process.stdin.write(line + b"\n")
                process.stdin.flush()


def main() -> None:
    """Load an engine, and repeat the latest trial until stdin ends."""
    order = msgspec.json.decode(_line(), type=Order)
    if order.placement.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, order.placement.cores)
    engine = load(order.engine, order.placement)
    os.write(1, b"ready\n")
    number = 0
    trial = _next(None)
    while trial:
        number += 1
        run_trial(engine, trial, number)
        trial = _next(trial)


def _line() -> bytes:
    """A line of stdin, read byte by byte: what a buffer held, `select` would not see."""
    line = b""
    while not line.endswith(b"\n") and (some := os.read(0, 1)):
        line += some
    return line


def _next(trial: Trial | None) -> Trial | None:
    """The latest trial that was told, or the same again; None once stdin has ended."""
    while trial is None or select.select([0], [], [], 0)[0]:
        line = _line()
        if not line:
            return None
        trial = msgspec.json.decode(line, type=Trial)
    return trial


if __name__ == "__main__":
    main()
