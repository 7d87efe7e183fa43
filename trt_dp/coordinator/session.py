"""One sitting of a run: the only event loop. What it decides, others decide for it."""

from __future__ import annotations

import math
from collections.abc import Callable
from time import perf_counter

import numpy as np

from trt_dp.coordinator.dispatcher import Dispatcher, Indices, Stray, given_up
from trt_dp.coordinator.job import Display, Job, Snapshot
from trt_dp.coordinator.journal import Journal
from trt_dp.coordinator.pool import Event, Limits, Lost, Pool
from trt_dp.coordinator.run_folder import Folder
from trt_dp.coordinator.tally import Tally
from trt_dp.dataset.index import Index
from trt_dp.errors import EngineRefused, Interrupted, NoWorkersLeft, UsageError
from trt_dp.launchers import Launcher
from trt_dp.types import RECORD, Failure, Placement, Records
from trt_dp.wire.messages import Done, EngineFacts, Hello, Ready, Refused, Setup, Work

_NEWLINE = ord("\n")
_BEATS_PER_STALL = 4
_LONGEST_BEAT = 5.0
_TURN_SECONDS = 0.25
_CLOSE_SECONDS = 30.0
_GUILTY_IN_A_ROW = 64  # with no answer between them: then the engine is to blame, not the requests


class Session:
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
        self._signals: list[int] = []
        self._ready: dict[int, Ready] = {}
        self._once_ready: set[int] = set()
        self._open = len(placements)
        self._deaths = 0
        self._given_up_in_a_row = 0
        self._connected = self._loaded = self._ended = 0.0
        self.tally = Tally(len(index), len(placements))
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
        proven = bool((self._journal.settled & ~self._journal.failed).any())
        self._dispatcher = Dispatcher(pending, len(self._placements), proven=proven)

    def serve(self, launcher: Launcher, signals: list[int]) -> None:
        """Start the workers, and feed them until every request is settled; raises if that cannot be."""
        limits = self._job.limits if launcher.killable else _patient(self._job.limits)
        self._pool = Pool(
            launcher, self._placements, self._setup(limits.stall_seconds), limits, self._logs
        )
        self._signals = signals
        self._pool.start()
        self._loop(self._pool, signals)
        self._ended = perf_counter()
        self._pool.stop()

    def close(self, *, at_once: bool) -> None:
        """Wait for the workers to leave, or end them; afterwards none is left."""
        if self._pool:
            self._pool.close(0 if at_once else _CLOSE_SECONDS, self._signals)
            self._pool = None

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
            self._once_ready.add(worker)
            self.tally.ready(worker, event.load_seconds)
        elif isinstance(event, EngineFacts):
            self.tally.told(worker, event.facts)
        elif isinstance(event, Done):
            self._receive(pool, worker, event)
        elif isinstance(event, Refused):
            self._refuse(pool, worker, event)
        else:
            self._lose(pool, worker, event)

    def _refuse(self, pool: Pool, worker: int, refused: Refused) -> None:
        """Trying again does not help, unless it loaded in this place before: memory may be short for a moment."""
        if refused.usage:
            raise UsageError(refused.message)
        if worker not in self._once_ready:
            raise EngineRefused(refused.message)
        pool.discard(worker, f"the engine would not load again: {refused.message}")

    def _feed(self, pool: Pool) -> None:
        """Give every worker what it has room for."""
        for worker, ready in self._ready.items():
            if not pool.accepts(worker):
                continue
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
        return Work(spans, b"".join(self._index.read(indices.tolist())))

    def _receive(self, pool: Pool, worker: int, done: Done) -> None:
        started = perf_counter()
        try:
            records = _checked(worker, done)
            self._dispatcher.finish(worker, records["index"].tolist())
        except ValueError as nonsense:
            pool.discard(worker, str(nonsense))
            return
        self._given_up_in_a_row = 0
        self._journal.append(records, done.lines)
        self.tally.came(worker, records, started)

    def _lose(self, pool: Pool, worker: int, lost: Lost) -> None:
        self._deaths += 1
        self._ready.pop(worker, None)
        hopeless = self._dispatcher.lose(worker)
        self.tally.lost(worker, len(hopeless), lost.reason)
        if hopeless:
            deaths = {i: given_up(lost.reason, self._dispatcher.deaths_of(i)) for i in hopeless}
            self._give_up(hopeless, deaths)
            self._given_up_in_a_row += len(hopeless)
            if self._given_up_in_a_row < _GUILTY_IN_A_ROW:
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

    def _setup(self, stall_seconds: float) -> Callable[[Placement], Setup]:
        """What each worker is told first."""
        beat = min(_LONGEST_BEAT, stall_seconds / _BEATS_PER_STALL)
        job, source = self._job, self._index.source
        wanted = job.detokenize or self._index.first_text is not None
        tokenizer = job.engine.path if wanted else None
        return lambda where: Setup(
            job.engine, where, source, beat, job.timing, tokenizer, job.detokenize
        )

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


def _checked(worker: int, done: Done) -> Records:
    """The records of answers; raises Stray where they are not about just these lines, each whole and ended."""
    records = np.frombuffer(done.records, RECORD)
    lengths = records["length"]
    ends = np.cumsum(lengths, dtype=np.int64)
    whole = len(records) > 0 and int(lengths.min()) > 0 and int(ends[-1]) == len(done.lines)
    if not whole or done.lines.count(b"\n") != len(records):
        msg = f"worker {worker} sent other lines than it said"
        raise Stray(msg)
    if not (np.frombuffer(done.lines, np.uint8)[ends - 1] == _NEWLINE).all():
        msg = f"worker {worker} sent lines that end elsewhere than it said"
        raise Stray(msg)
    counted = records["input_tokens"].min() >= 0 and records["output_tokens"].min() >= 0
    if not counted or records["failed"].view(np.uint8).max() > 1:
        msg = f"worker {worker} sent counts that are none"
        raise Stray(msg)
    return records


def _patient(limits: Limits) -> Limits:
    """For workers that cannot be killed, such as one that sits in a debugger."""
    return Limits(math.inf, math.inf, limits.start_seconds, limits.max_restarts, math.inf)
