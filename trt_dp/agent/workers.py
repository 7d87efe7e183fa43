"""The workers of one host: started, running, and ended with all that they started."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import BinaryIO

from trt_dp.launchers.local import LocalLauncher
from trt_dp.placement.environment import clean
from trt_dp.system.guarded import Guarded
from trt_dp.types import Placement
from trt_dp.wire.environment import ADDRESS
from trt_dp.wire.messages import Ended, Logged, Start

_PIECE, _TAIL = 1 << 14, 1 << 16
_KILLED_SECONDS, _SOON = 30.0, 0.01
_NOT_STARTED = 126
Key = tuple[int, int]


class Running:
    """A worker, and its log: a file without a name, so that nothing is left of it whatever ends the agent."""

    def __init__(self, start: Start, address: str) -> None:
        self.key: Key = (start.worker, start.launch)
        self._log = _nameless()
        self._told = 0
        environment = {**clean(os.environ), **start.variables, ADDRESS: address}
        place = Placement(start.worker, cores=start.cores)
        path = Path(f"/proc/self/fd/{self._log.fileno()}")
        self.process: Guarded = LocalLauncher().start(place, environment, path)

    def logged(self) -> Logged | None:
        """The next piece of what it has logged."""
        text = os.pread(self._log.fileno(), _PIECE, self._told)
        self._told += len(text)
        return Logged(*self.key, text) if text else None

    def rest(self) -> Logged | None:
        """What is left of its log; of much, the end."""
        left = os.fstat(self._log.fileno()).st_size - self._told
        skipped = max(0, left - _TAIL)
        note = f"\n... {skipped:,} bytes of this log stayed on the host ...\n" if skipped else ""
        text = note.encode() + os.pread(self._log.fileno(), _TAIL, self._told + skipped)
        self._log.close()
        return Logged(*self.key, text) if text else None


def _nameless() -> BinaryIO:
    """A file without a name; in memory where no folder for temporary files can be written to."""
    try:
        return tempfile.TemporaryFile(prefix="trt-dp-")
    except OSError:
        return os.fdopen(os.memfd_create("trt-dp"), "w+b")


class Workers:
    """All workers of this host; they find the coordinator at the address at which this agent found it."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._running: dict[Key, Running] = {}

    def start(self, start: Start) -> list[Logged | Ended]:
        """Start one; says at once that it ended where it cannot be started."""
        try:
            running = Running(start, self._address)
        except OSError as error:
            text = f"ERROR: the worker could not be started: {error}\n".encode()
            return [
                Logged(start.worker, start.launch, text),
                Ended(start.worker, start.launch, _NOT_STARTED),
            ]
        self._running[running.key] = running
        return []

    def kill(self, key: Key) -> None:
        """End one, if it still runs."""
        if running := self._running.get(key):
            running.process.kill()

    def logged(self) -> list[Logged]:
        """The next piece of each log."""
        return [piece for one in self._running.values() if (piece := one.logged())]

    def ended(self) -> list[Logged | Ended]:
        """Those that have ended since the last look, each with the rest of its log before it."""
        told: list[Logged | Ended] = []
        for key, running in list(self._running.items()):
            status = running.process.poll()
            if status is not None:
                del self._running[key]
                rest = running.rest()
                told += [rest] if rest else []
                told.append(Ended(*key, status))
        return told

    def close(self) -> None:
        """End all of them, and wait until they have ended."""
        for running in self._running.values():
            running.process.kill()
        deadline = time.monotonic() + _KILLED_SECONDS
        while self._running and time.monotonic() < deadline:
            self.ended()
            time.sleep(_SOON)
