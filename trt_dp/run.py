"""run(): a dataset file in, ordered results out. The only event loop; what it decides, others decide for it."""

from __future__ import annotations

import contextlib
import math
import platform
import resource
import signal
import sys
import threading
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Protocol

import msgspec
import numpy as np
from msgspec import Struct

from trt_dp import placement, plugins
from trt_dp.dataset import Index, open_dataset
from trt_dp.dispatch import Dispatcher, Indices, Stray, given_up
from trt_dp.errors import DatasetError, EngineRefused, Interrupted, NoWorkersLeft, UsageError
from trt_dp.folder import Asked, Folder, open_folder, write
from trt_dp.journal import Journal
from trt_dp.launchers import Launcher
from trt_dp.pool import Event, Limits, Lost, Pool
from trt_dp.report import Activity, Report, Whole, phases, summarise
from trt_dp.tally import Tally
from trt_dp.types import (
    RECORD,
    Done,
    EngineSpec,
    Failure,
    Hello,
    Placement,
    Ready,
    Refused,
    Setup,
    Work,
)

_BEATS_PER_STALL = 4
_LONGEST_BEAT = 5.0
_TURN_SECONDS = 0.25
_CLOSE_SECONDS = 30.0


class Job(Struct, frozen=True):
    """All that a run can be asked for."""

    dataset: Path
    folder: Path
    engine: EngineSpec
    workers: int | None = None
    gpus_per_worker: int | None = None
    workers_per_gpu: int = 1
    launcher: str = "local"
    fresh: bool = False
    skip_bad: bool = False
    timing: bool = True
    limits: Limits = Limits()
    grace_seconds: float = 30.0


class Outcome(Struct, frozen=True):
    """What a finished run leaves."""

    report: Report
    folder: Path


class Snapshot(Struct, frozen=True):
    """Where a run is."""

    requests: int
    settled: int
    failed: int
    output_tokens: int
    workers: int
    ready: int
    deaths: int


class Display(Protocol):
    """Who watches a run: told of its phases, of what happens, and often of where it is."""

    def say(self, text: str) -> None:
        """Something happened that a user should know."""

    def indexing(self, done: int, total: int) -> None:
        """So many bytes of the dataset are checked."""

    def show(self, snapshot: Snapshot) -> None:
        """Where the run is; called several times a second."""


def run(job: Job, display: Display) -> Outcome:
    """Answer every request of the dataset, in a folder that can be gone on with; raises TrtDpError."""
    marks = [perf_counter()]
    plugins.check(plugins.ENGINES, job.engine.name)
    make_launcher = plugins.find(plugins.LAUNCHERS, job.launcher)
    with open_folder(job.folder, fresh=job.fresh) as folder:
        index = _open_index(job, folder, display)
        folder.claim(_asked(job, index))
        plan = placement.plan(
            placement.look(), job.workers, job.gpus_per_worker, job.workers_per_gpu
        )
        for note in plan.notes:
            display.say(note)
        with contextlib.closing(Journal(folder.journal, len(index))) as journal:
            session = _Session(job, index, journal, plan.placements, folder, display)
            session.begin()
            marks.append(perf_counter())
            if not session.finished:
                session.serve(make_launcher())
            marks += session.marks(marks[-1])
            sorting = _export(folder, journal)
            marks.append(perf_counter())
            session.close()
            marks.append(perf_counter())
            whole = _whole(job, journal, plan.placements, marks, sorting)
            report = summarise(whole, session.tally.counts())
            write(folder.report, msgspec.json.format(msgspec.json.encode(report)))
    return Outcome(report, job.folder)


class _Session:
    """One sitting of a run: what is not settled yet is fed to workers until it is."""

    def __init__(
        self,
        job: Job,
        index: Index,
        journal: Journal,
        placements: tuple[Placement, ...],
        folder: Folder,
        display: Display,
    ) -> None:
        self._job = job
        self._index = index
        self._journal = journal
        self._placements = placements
        self._logs = folder.logs
        self._display = display
        self._pool: Pool | None = None
        self._ready: dict[int, Ready] = {}
        self._open = len(placements)
        self._deaths = 0
        self._connected = self._loaded = self._ended = 0.0
        self.tally = Tally(len(index), len(placements), index.lines["input_tokens"])
        self._dispatcher = Dispatcher(np.empty(0, np.int64), 0)

    @property
    def finished(self) -> bool:
        """Whether every request is settled."""
        return not self._dispatcher.unfinished

    def begin(self) -> None:
        """Settle the bad lines, and queue what no earlier session settled."""
        if self._journal.dropped_bytes:
            self._display.say(f"dropped a torn journal end of {self._journal.dropped_bytes} bytes")
        settled = self._journal.settled
        bad = [index for index in self._index.bad if not settled[index]]
        self._give_up(bad, {})
        pending = np.flatnonzero(~self._journal.settled)
        earlier = len(self._index) - len(pending) - len(bad)
        if earlier:
            self._display.say(f"{earlier:,} of {len(self._index):,} requests are settled already")
        self._dispatcher = Dispatcher(pending, len(self._placements))

    def serve(self, launcher: Launcher) -> None:
        """Start the workers, and feed them until every request is settled; raises if that cannot be."""
        limits = self._job.limits if launcher.killable else _patient(self._job.limits)
        self._pool = Pool(
            launcher, self._placements, self._setup(limits.stall_seconds), limits, self._logs
        )
        try:
            with _signals() as signals:
                self._pool.start()
                self._loop(self._pool, signals)
        except BaseException:
            self._pool.close(0)
            raise
        self._ended = perf_counter()
        self._pool.stop()

    def close(self) -> None:
        """Wait for the workers to leave."""
        if self._pool:
            self._pool.close(_CLOSE_SECONDS)

    def marks(self, begun: float) -> list[float]:
        """When the first worker connected, was loaded, the last request left, the last answer was settled."""
        moments = (self._connected, self._loaded, self.tally.last_send, self._ended)
        marks = []
        for moment in moments:
            begun = max(begun, moment)
            marks.append(begun)
        return marks

    def _loop(self, pool: Pool, signals: list[int]) -> None:
        stop_at = math.inf
        while not self.finished:
            for worker, event in pool.events(_TURN_SECONDS):
                self._attend(pool, worker, event)
            if signals and stop_at == math.inf:
                stop_at = perf_counter() + self._job.grace_seconds
                held = self._dispatcher.held
                self._display.say(f"stopping: waiting for {held} requests in hand (again: at once)")
            if stop_at == math.inf:
                self._feed(pool)
            elif not self._dispatcher.held or len(signals) > 1 or perf_counter() > stop_at:
                raise Interrupted(self._how_to_go_on("stopped"))
            self._show()
        self._show()

    def _attend(self, pool: Pool, worker: int, event: Event) -> None:
        if isinstance(event, Hello):
            self._connected = self._connected or perf_counter()
        elif isinstance(event, Ready):
            self._loaded = self._loaded or perf_counter()
            self._ready[worker] = event
            self.tally.ready(worker, event.load_seconds)
        elif isinstance(event, Done):
            self._receive(pool, worker, event)
        elif isinstance(event, Refused):
            raise UsageError(event.message) if event.usage else EngineRefused(event.message)
        else:
            self._lose(pool, worker, event)

    def _feed(self, pool: Pool) -> None:
        """Give every worker what it has room for."""
        for worker, ready in self._ready.items():
            started = perf_counter()
            indices = self._dispatcher.take(worker, ready.capacity)
            if len(indices):
                pool.send(worker, self._work(indices, ready))
                self.tally.sent(worker, indices, started)

    def _work(self, indices: Indices, ready: Ready) -> Work:
        """Spans, and the lines themselves only for a worker that does not see the file."""
        spans = self._index.spans(indices).tobytes()
        if ready.reads_source:
            return Work(spans)
        return Work(spans, b"".join(self._index.read(index) for index in indices.tolist()))

    def _receive(self, pool: Pool, worker: int, done: Done) -> None:
        started = perf_counter()
        try:
            records = np.frombuffer(done.records, RECORD)
            if int(records["length"].sum()) != len(done.lines):
                msg = f"worker {worker} sent lines of other lengths than it said"
                raise Stray(msg)
            self._dispatcher.finish(worker, records["index"].tolist())
        except ValueError as nonsense:
            pool.discard(worker, str(nonsense))
            return
        self._journal.append(records, done.lines)
        self.tally.came(worker, records, started)

    def _lose(self, pool: Pool, worker: int, lost: Lost) -> None:
        self._deaths += 1
        self._ready.pop(worker, None)
        self.tally.lost(worker)
        hopeless = self._dispatcher.lose(worker)
        if hopeless:
            deaths = {i: given_up(lost.reason, self._dispatcher.deaths_of(i)) for i in hopeless}
            self._give_up(hopeless, deaths)
            pool.forgive()
        then = "it is not started again" if lost.closed else "it is started again"
        log = self._logs / f"worker-{worker}.log"
        self._display.say(f"worker {worker} died: {lost.reason}; {then} (see {log})")
        if lost.closed:
            self._open -= 1
            self._dispatcher.retire()
        if not self._open and not self.finished:
            raise NoWorkersLeft(
                self._how_to_go_on(f"no worker is left (the last one: {lost.reason}; see {log})")
            )

    def _give_up(self, indices: list[int], errors: dict[int, Failure]) -> None:
        if indices:
            self._journal.append(*self._index.failures(indices, errors))
            self.tally.gave_up(len(indices))

    def _setup(self, stall_seconds: float) -> _Setups:
        beat = min(_LONGEST_BEAT, stall_seconds / _BEATS_PER_STALL)
        return _Setups(self._job, self._index, beat)

    def _how_to_go_on(self, what: str) -> str:
        settled, folder = int(self._journal.settled.sum()), self._job.folder
        return (
            f"{what}: {settled:,} of {len(self._index):,} requests are settled and kept in {folder}; "
            f"the same command with --output-dir {folder} goes on from there"
        )

    def _show(self) -> None:
        total = len(self._index)
        self._display.show(
            Snapshot(
                total,
                total - self._dispatcher.unfinished,
                self.tally.failed,
                self.tally.output_tokens,
                len(self._placements),
                len(self._ready),
                self._deaths,
            )
        )


class _Setups:
    """What each worker is told first."""

    def __init__(self, job: Job, index: Index, beat_seconds: float) -> None:
        self._job, self._index, self._beat_seconds = job, index, beat_seconds

    def __call__(self, where: Placement) -> Setup:
        return Setup(
            self._job.engine, where, self._index.source, self._beat_seconds, self._job.timing
        )


def _open_index(job: Job, folder: Folder, display: Display) -> Index:
    index = open_dataset(job.dataset, folder.path, display.indexing)
    if index.bad and not job.skip_bad:
        raise DatasetError(index.refusal())
    return index


def _asked(job: Job, index: Index) -> Asked:
    versions = {"trt-dp": version("trt-dp"), "python": platform.python_version()}
    return Asked(
        index.source.path,
        index.fingerprint,
        len(index),
        job.engine,
        job.timing,
        job.skip_bad,
        versions,
    )


def _export(folder: Folder, journal: Journal) -> Activity:
    """Write answers and failures, each in input order; a file of failures is there only if there are any."""
    started = perf_counter()
    exported = journal.export(folder.results, ~journal.failed)
    if journal.failed.any():
        exported += journal.export(folder.failures, journal.failed)
    else:
        folder.failures.unlink(missing_ok=True)
    seconds = perf_counter() - started
    return Activity(exported, seconds, seconds, exported / seconds)


def _whole(
    job: Job,
    journal: Journal,
    placements: tuple[Placement, ...],
    marks: list[float],
    sorting: Activity,
) -> Whole:
    used = resource.getrusage(resource.RUSAGE_SELF)
    failed = int(journal.failed.sum())
    settled = int(journal.settled.sum())
    return Whole(
        engine=job.engine.name,
        dataset=str(job.dataset),
        launcher=job.launcher,
        requests=settled,
        answered=settled - failed,
        failed=failed,
        devices=[list(where.devices) for where in placements],
        phases=phases(marks),
        sorting=sorting,
        wall_seconds=marks[-1] - marks[0],
        coordinator_cpu_seconds=used.ru_utime + used.ru_stime,
        coordinator_peak_rss_bytes=used.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        dropped_journal_bytes=journal.dropped_bytes,
    )


def _patient(limits: Limits) -> Limits:
    """For workers that cannot be killed, such as one that sits in a debugger."""
    return Limits(math.inf, math.inf, limits.start_seconds, limits.max_restarts)


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """SIGINT, SIGTERM and SIGHUP while this lasts: they are only noted, the loop acts on them."""
    noted: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return
    kinds = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {kind: signal.signal(kind, lambda number, _: noted.append(number)) for kind in kinds}
    try:
        yield noted
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
