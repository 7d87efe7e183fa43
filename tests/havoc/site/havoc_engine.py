"""An engine that misbehaves on purpose: a real one inside, and around it what goes wrong and when.

`poison` goes wrong whenever it meets its request, `once` only the first time in the whole run, in
whichever worker that is; both are given as `kind:index,kind:index`.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from havoc_acts import ACTS, PAST

from trt_dp.engines.echo import EchoEngine
from trt_dp.errors import EngineRefused
from trt_dp.types import EngineSpec, Placement, Request, Result


class HavocEngine:
    """Loading, serving, and at some moment neither."""

    def __init__(
        self,
        spec: EngineSpec,
        placement: Placement,
        *,
        marks: str,
        inner: str = "echo",
        capacity: int = 16,
        batch: int = 8,
        step_seconds: float = 0.0,
        load_seconds: float = 0.0,
        refuse_at: int = 0,
        close: str = "",
        once: str = "",
        poison: str = "",
    ) -> None:
        self._marks = Path(marks)
        time.sleep(load_seconds)
        if refuse_at and self._count("load") == refuse_at:
            msg = "the engine was told to refuse this time"
            raise EngineRefused(msg)
        self._inner = _inner(inner, spec, placement, capacity, batch, step_seconds)
        self.capacity = self._inner.capacity
        self._rank = subprocess.Popen(["/bin/sleep", "1000"])  # as the ranks of a real engine are
        self._close, self._mute = close, False
        self._poison, self._once = _parse(poison), _parse(once)

    def submit(self, request: Request) -> None:
        """Take a request, or go wrong over it."""
        self._meet(request.index, submitting=True)
        self._inner.submit(request)

    def step(self) -> list[Result]:
        """Go on, and go wrong over the answers whose time has come."""
        if self._rank.poll() is not None:
            msg = "a rank of the engine died"
            raise RuntimeError(msg)
        results = [] if self._mute else self._inner.step()
        for result in results:
            self._meet(result.index, submitting=False)
        if self._mute:  # turning for ever, with nothing to say
            time.sleep(0.01)
            return []
        PAST.extend(result.index for result in results)
        return results

    def close(self) -> None:
        """Leave, the way that was asked for."""
        self._inner.close()
        if self._close:
            ACTS[self._close](0)
        self._rank.kill()
        self._rank.wait()

    def _meet(self, index: int, *, submitting: bool) -> None:
        poison, once = self._poison.get(index), self._once.get(index)
        if poison and submitting == (poison == "raise_submit"):
            self._go_wrong(poison, index)
        if once and submitting == (once == "raise_submit") and self._first(f"{once}-{index}"):
            self._go_wrong(once, index)

    def _go_wrong(self, kind: str, index: int) -> None:
        if kind == "mute":
            self._mute = True
        else:
            ACTS[kind](index)

    def _first(self, name: str) -> bool:
        """Whether this has not happened before, in any worker; remembers that it has, and when."""
        try:
            fd = os.open(self._marks / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            return False
        os.write(fd, repr(time.monotonic()).encode())
        os.close(fd)
        return True

    def _count(self, name: str) -> int:
        number = 1
        while not self._first(f"{name}-{number}"):
            number += 1
        return number


def _inner(
    name: str, spec: EngineSpec, placement: Placement, capacity: int, batch: int, seconds: float
) -> EchoEngine:
    if name == "echo":
        return EchoEngine(spec, placement, capacity=capacity, batch=batch, step_seconds=seconds)
    from trt_dp.engines.cpu.engine import CpuEngine

    return CpuEngine(spec, placement, max_sequences=capacity)


def _parse(given: str) -> dict[int, str]:
    pairs = (item.split(":") for item in given.split(",") if item)
    return {int(index): kind for kind, index in pairs}
