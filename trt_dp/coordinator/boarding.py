"""Workers that start and load their engines while the dataset is still being checked.

Only in a new folder, on this machine, and for inputs that take a while: what is refused at once is refused
before anything is loaded, and the folder of another run is never touched.
"""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from msgspec import structs

from trt_dp.coordinator.abilities import group
from trt_dp.coordinator.job import Display, Job
from trt_dp.coordinator.outgoing import first_setups
from trt_dp.coordinator.reception import AnyLauncher, limits_with, reception
from trt_dp.coordinator.run_folder import Folder
from trt_dp.coordinator.workers.pool import Happening, Pool
from trt_dp.dataset.reading import look, reading_of
from trt_dp.errors import DatasetError, EngineRefused, UsageError
from trt_dp.launchers import HostLauncher, Launcher
from trt_dp.types import Placement
from trt_dp.wire.messages import Refused, Setup

_MUCH = 64 << 20
_NEW = {".lock"}
_KNOCKS = 8  # looks in a row while a process is connecting: a handshake takes several


class Boarding:
    """Workers on their way up: they are started, then handed to a session with all that happened, or ended."""

    def __init__(self, job: Job, launcher: Launcher, logs: Path) -> None:
        logs.mkdir()
        self._job = job
        self._logs = logs
        self._limits = limits_with(job.limits, launcher)
        admission, hosts = reception(launcher)
        patient = structs.replace(self._limits, load_seconds=math.inf)
        self._pool: Pool | None = Pool(admission, hosts, first_setups(job), patient, logs)
        self._happened: list[Happening] = []

    def start(self, launcher: Launcher, placements: Sequence[Placement]) -> None:
        """Start the workers in these places."""
        if self._pool:
            self._pool.add(launcher, placements)

    def look(self) -> None:
        """Called often while the dataset is checked; raises EngineRefused where an engine does not load."""
        if self._pool:
            self._happened += self._pool.events(0)
            for _ in range(_KNOCKS):
                self._happened += self._pool.events(0) if self._pool.admits else []
        refused = [event for _, event in self._happened if isinstance(event, Refused)]
        if refused and not self._job.limits.allow_fewer:
            raise (UsageError if refused[0].usage else EngineRefused)(refused[0].message)

    def hand_over(self, setup: Callable[[Placement], Setup]) -> tuple[Pool, list[Happening]]:
        """The workers, who are told now what to answer, and what has happened to them."""
        if self._pool is None:
            msg = "the workers were handed over already"
            raise ValueError(msg)
        pool, self._pool = self._pool, None
        pool.complete(setup, self._limits)
        return pool, self._happened

    def close(self) -> None:
        """End workers that nobody took, and remove their logs."""
        if self._pool:
            self._pool.close(0)
            self._pool = None
            shutil.rmtree(self._logs, ignore_errors=True)


@contextlib.contextmanager
def boarding(
    folder: Folder, job: Job, launcher: AnyLauncher, placements: Sequence[Placement]
) -> Iterator[Boarding | None]:
    """Workers that start now, if that saves time; those that no session took are ended."""
    if isinstance(launcher, HostLauncher) or not _is_worth_it(folder, job, launcher, placements):
        yield None
        return
    with contextlib.closing(Boarding(job, launcher, folder.logs)) as begun:
        begun.start(launcher, placements)
        yield begun


def _is_worth_it(
    folder: Folder, job: Job, launcher: Launcher, placements: Sequence[Placement]
) -> bool:
    if not launcher.killable or group(job, len(placements)):
        return False
    is_new = {found.name for found in folder.path.iterdir()} == _NEW
    return is_new and _size(job) >= _MUCH


def _size(job: Job) -> int:
    """The bytes to read; 0 where there is nothing to read, which the reader will say."""
    try:
        return look(reading_of(job.dataset)).size
    except DatasetError:
        return 0


def watched(display: Display, begun: Boarding | None) -> Callable[[int, int], None]:
    """Shows how much of the dataset is checked, and looks at the workers meanwhile."""

    def progress(done: int, total: int) -> None:
        display.indexing(done, total)
        if begun:
            begun.look()

    return progress
