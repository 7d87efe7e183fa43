"""One session of a run: the only event loop. Every decision is made in another module."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

import numpy as np

from trt_dp.coordinator.abilities import group
from trt_dp.coordinator.boarding import Boarding
from trt_dp.coordinator.growth import Growth, Shortage
from trt_dp.coordinator.intake import Desk, Intake
from trt_dp.coordinator.job import Snapshot
from trt_dp.coordinator.lookout import Lookout
from trt_dp.coordinator.order.choose import choose
from trt_dp.coordinator.order.contract import NOTHING, Indices
from trt_dp.coordinator.order.ordering import known
from trt_dp.coordinator.order.runs import Runs
from trt_dp.coordinator.outgoing import setups, works
from trt_dp.coordinator.queue.blame import Blame, given_up
from trt_dp.coordinator.queue.copies import copies_of
from trt_dp.coordinator.queue.dispatcher import Dispatcher
from trt_dp.coordinator.reception import AnyLauncher, growth, limits_with, reception
from trt_dp.coordinator.record.bookkeeping import books, how_to_resume, opening
from trt_dp.coordinator.record.recorder import Recorder
from trt_dp.coordinator.remaining import Remaining
from trt_dp.coordinator.scope import Scope, input_tokens, tally_of
from trt_dp.coordinator.stopping import Stopping
from trt_dp.coordinator.stopping import told as stopping_told
from trt_dp.coordinator.stopwatch import Stopwatch
from trt_dp.coordinator.workers.absence import Absences
from trt_dp.coordinator.workers.crew import Crew
from trt_dp.coordinator.workers.events import Event, Lost
from trt_dp.coordinator.workers.hosts import Hosts
from trt_dp.coordinator.workers.meeting import Meeting
from trt_dp.coordinator.workers.pool import Pool
from trt_dp.coordinator.workers.refusals import Refusals
from trt_dp.errors import Interrupted, NoWorkersLeft
from trt_dp.launchers import HostLauncher, Launcher
from trt_dp.report.ledger import Books
from trt_dp.types import Placement
from trt_dp.wire.messages import (
    Capacity,
    Done,
    EngineFacts,
    GivenBack,
    Hello,
    Ready,
    Refused,
)

_TURN_SECONDS = 0.25
_CLOSE_SECONDS = 30.0


class Session:
    """One session of a run: it feeds the workers until every request is completed."""

    def __init__(self, scope: Scope, stopwatch: Stopwatch) -> None:
        self._scope = scope
        self._stopwatch = stopwatch
        self._dispatcher = Dispatcher(NOTHING, 0)
        self._crew = Crew(len(scope.placements))
        self._refusals = Refusals(self._crew, allow_fewer=scope.job.limits.allow_fewer)
        self._blame = Blame()
        self._pool: Pool | None = None
        self._hosts = Hosts()
        self._growth: Growth | None = None
        self._shortage = Shortage(scope.job.limits, self._say)
        self._signals: Sequence[int] = ()
        self.tally = tally_of(scope)
        self.recorder = Recorder(self.tally, scope.log)
        self._intake = self._new_intake()
        self._before = opening(scope.journal)
        self._wanted_tokens = 0
        self._absences = Absences()
        self._lookout: Lookout | None = None

    @property
    def finished(self) -> bool:
        """Whether every request is completed."""
        return not self._dispatcher.unfinished

    def begin(self) -> None:
        """Fail the invalid lines, and queue what no earlier session completed."""
        journal, index, say = self._scope.journal, self._scope.index, self._say
        self.recorder.began(len(index), int(journal.completed.sum()))
        self._before = opening(journal)
        if journal.dropped_bytes:
            say(f"dropped {journal.dropped_bytes} bytes of a journal entry that was cut off")
        completed = journal.completed
        bad = [place for place in index.bad if not completed[place]]
        self._intake.fail(bad, {})
        pending = Runs(~journal.completed)
        earlier = len(index) - len(pending) - len(bad)
        if earlier:
            say(f"resuming: {earlier:,} of {len(index):,} requests are already completed")
        wanted = index.lines["output_tokens"]
        self._wanted_tokens = int(wanted.sum(dtype=np.int64, where=~journal.completed))
        proven = bool((journal.completed & ~journal.failed).any())
        what = known(self._scope.job, self._scope.index, pending, say)
        chosen = choose(self._scope.job.order, what)
        if len(pending) and chosen.why:
            say(chosen.why)
        copies = copies_of(what) if self._scope.job.speculate else None
        self._dispatcher = Dispatcher(
            chosen.order, self._crew.workers, proven=proven, copies=copies
        )
        self._intake = self._new_intake()
        remaining = Remaining(chosen.order, pending, what.limits)
        self._lookout = Lookout(remaining, self.tally)

    def _new_intake(self) -> Intake:
        desk = Desk(
            index=self._scope.index,
            journal=self._scope.journal,
            tally=self.tally,
            recorder=self.recorder,
        )
        return Intake(self._dispatcher, self._blame, desk)

    def serve(self, launcher: AnyLauncher, signals: Sequence[int]) -> None:
        """Start the workers, and feed them until every request is completed; raises if that cannot be."""
        self._signals = signals
        if self._scope.boarding:
            self._pool = self._board(self._scope.boarding)
        else:
            self._pool = self._open(launcher)
        self._loop(self._pool, Stopping(signals, self._scope.job.grace_seconds))
        self._stopwatch.end("feed", self.tally.last_send)
        self._stopwatch.end("drain")
        self._pool.stop()

    def _board(self, boarding: Boarding) -> Pool:
        """Take over workers that were started before, and hear now what has happened to them."""
        scope = self._scope
        setup = setups(scope.job, scope.index, scope.folder)
        self._pool, happened = boarding.hand_over(setup)
        for place in scope.placements:
            self.recorder.entered(place.worker, "starting")
        for worker, event in happened:
            self._attend(self._pool, worker, event)
        return self._pool

    def _open(self, launcher: AnyLauncher) -> Pool:
        """Start the workers, or let hosts join."""
        scope = self._scope
        admission, self._hosts = reception(launcher, scope.job.address, scope.job.port)
        limits = limits_with(scope.job.limits, launcher)
        setup = setups(scope.job, scope.index, scope.folder)
        self._pool = pool = Pool(admission, self._hosts, setup, limits, scope.folder.logs)
        if together := group(scope.job, len(scope.placements)):
            pool.tie(Meeting(*together))
        if isinstance(launcher, HostLauncher):
            self._growth = growth(scope.job, launcher, self._say)
            self._say(f"hosts join at {admission.door.address}")
            self._hosts.begin(admission.credentials)
        else:
            self._start(pool, launcher, scope.placements)
        return pool

    @property
    def placements(self) -> Sequence[Placement]:
        """Those of all workers that there ever were, by number."""
        return self._growth.placements if self._growth else self._scope.placements

    def books(self) -> Books:
        """What was submitted to this sitting and what became of it, for the ledger."""
        return books(self._before, self._scope.journal, self.tally, input_tokens(self._scope))

    def close(self, *, at_once: bool) -> None:
        """Wait for the workers to leave, or end them; afterwards none is left."""
        if self._pool:
            self._pool.close(0 if at_once else _CLOSE_SECONDS, self._signals)
            self._pool = None

    def _loop(self, pool: Pool, stopping: Stopping) -> None:
        while not self.finished:
            for worker, event in pool.events(_TURN_SECONDS):
                self._attend(pool, worker, event)
            self._look_at_crew(pool)
            if stopping.begins():
                self._say(stopping_told(self._dispatcher.in_flight))
            if not stopping.begun:
                self._feed(pool)
            elif stopping.over(self._dispatcher.in_flight):
                raise Interrupted(self._how_to_resume("stopped"))
            self._look_at_pause(perf_counter())
            self._show()
        self._show()

    def _look_at_pause(self, now: float) -> None:
        """Raises NoWorkersLeft once no worker has wanted requests for too long, with none in flight."""
        self._dispatcher.miss(self._absences.overdue(now))
        working = self._dispatcher.in_flight > 0 or not self._crew.takes_nothing
        limit = self._scope.job.limits.paused_seconds
        if self._absences.idle_seconds(now, working=working) > limit:
            said = self._intake.gave_back
            why = f"nobody has taken a request for {limit:g} s (--paused-seconds). {said}"
            raise NoWorkersLeft(self._how_to_resume(why))

    def _start(self, pool: Pool, launcher: Launcher, placements: Sequence[Placement]) -> None:
        pool.add(launcher, placements)
        for place in placements:
            self.recorder.entered(place.worker, "starting")

    def _look_at_crew(self, pool: Pool) -> None:
        """Tell of workers that are given up; raises NoWorkersLeft where too few are left."""
        if self._growth:
            self._grow(pool, self._growth)
        elif (told := self._crew.fewer()) and not self.finished:
            self._say(told)
            if self._crew.remaining < self._scope.job.limits.min_workers:
                raise NoWorkersLeft(self._how_to_resume(f"{told}, and --min-workers asks for more"))

    def _grow(self, pool: Pool, growth: Growth) -> None:
        """Start workers on hosts that joined; raises NoWorkersLeft when there have been too few for too long."""
        for agent, placements in growth.attend(pool.news()):
            self._crew.enlist(len(placements))
            self._dispatcher.enlist(len(placements))
            self.tally.enlist(len(placements))
            self._start(pool, agent, placements)
        hopeless = self._hosts.exhausted and not self._hosts.joined
        why = self._shortage.lasts(self._crew.left, growth.missing(), hopeless=hopeless)
        if why and not self.finished:
            raise NoWorkersLeft(self._how_to_resume(why))

    def _attend(self, pool: Pool, worker: int, event: Event) -> None:
        if isinstance(event, Done):
            self._intake.receive(pool, worker, event)
        elif isinstance(event, Hello):
            self._stopwatch.end("start")
            self.recorder.entered(worker, "loading")
        elif isinstance(event, Ready):
            self._stopwatch.feeding_begins()
            self._crew.came_up(worker, event)
            self._dispatcher.came_up(worker, event.kv_tokens)
            self.recorder.ready(worker, event.load_seconds, event.capacity)
        elif isinstance(event, EngineFacts):
            self.tally.told(worker, event.facts)
        elif isinstance(event, GivenBack):
            self._intake.take_back(pool, worker, event)
        elif isinstance(event, Capacity):
            self._crew.takes(worker, event.capacity)
            self._dispatcher.miss(-self._absences.takes(worker, event.capacity, perf_counter()))
            self.recorder.capacity(worker, event.capacity)
        elif isinstance(event, Refused):
            self._refuse(pool, worker, event)
        else:
            self._lose(pool, worker, event)

    def _refuse(self, pool: Pool, worker: int, refused: Refused) -> None:
        """End the run, or this worker: if an engine has loaded there, memory may be short for a moment only."""
        elsewhere = bool(self._crew.ready and self.placements[worker].host)
        where = {"elsewhere": elsewhere, "together": pool.tied}
        end = pool.give_up if self._refusals.is_final(worker, refused, **where) else pool.discard
        end(worker, f"the engine would not load: {refused.message}")

    def _feed(self, pool: Pool) -> None:
        """Give every worker what it has room for."""
        for worker, ready in self._crew.ready.items():
            if not pool.accepts(worker):
                continue
            started = perf_counter()
            indices = self._dispatcher.take(worker, ready.capacity)
            if len(indices):
                self._send(pool, worker, indices)
                self.tally.sent(worker, indices, started)
            elif len(copied := self._dispatcher.copy(worker, ready.capacity)):
                self._send(pool, worker, copied)
                self.tally.copied(worker, copied)

    def _send(self, pool: Pool, worker: int, indices: Indices) -> None:
        for work in works(self._scope.index, indices, self._crew.ready[worker]):
            pool.send(worker, work)

    def _lose(self, pool: Pool, worker: int, lost: Lost) -> None:
        self._dispatcher.miss(-self._absences.lose(worker))
        hopeless = self._dispatcher.lose(worker, innocent=lost.innocent)
        self._crew.lose(worker, retired=lost.retired)
        self.recorder.lost(worker, len(hopeless), lost)
        deaths = {i: given_up(lost.reason, self._dispatcher.deaths_of(i)) for i in hopeless}
        self._intake.fail(hopeless, deaths)
        if self._blame.give_up(len(hopeless)):
            pool.forgive()
        if lost.retired:
            self._dispatcher.retire()
        self._tell_death(worker, lost)

    def _tell_death(self, worker: int, lost: Lost) -> None:
        """Raises NoWorkersLeft when it was the last one and requests remain; the loss of a host was told already."""
        if lost.innocent and self._growth:
            return
        then = "It will not be restarted" if lost.retired else "It is being restarted"
        log = self._scope.folder.logs / f"worker-{worker}.log"
        self._say(f"worker {worker} died: {lost.reason}. {then} (log: {log})")
        if not self._crew.left and not self.finished:
            why = f"no worker is left. The last one died: {lost.reason} (log: {log})"
            raise NoWorkersLeft(self._how_to_resume(why))

    def _how_to_resume(self, what: str) -> str:
        return how_to_resume(what, self._scope.journal, self._scope.job.folder)

    def _say(self, text: str) -> None:
        self.recorder.remark(text)
        self._scope.display.say(text)

    def _show(self) -> None:
        snapshot = self.snapshot()
        self.recorder.show(snapshot)
        self._scope.display.show(snapshot)

    def snapshot(self) -> Snapshot:
        """How far this sitting is."""
        total = len(self._scope.index)
        return Snapshot(
            requests=total,
            completed=total - self._dispatcher.unfinished,
            failed=self.tally.failed,
            output_tokens=self.tally.output_tokens,
            workers=self._crew.workers,
            ready=len(self._crew.ready),
            deaths=self._crew.deaths,
            wanted_tokens=self._wanted_tokens,
            wanted_done=self.tally.wanted_done,
            seconds=self._stopwatch.running_seconds,
            serving_seconds=self.tally.serving_seconds,
            left_seconds=self._lookout.seconds(perf_counter) if self._lookout else None,
            lanes=self.tally.lanes,
        )
