"""What workers send back: answers go to the journal, and what has no answer goes back to the queue, or fails."""

from __future__ import annotations

from time import perf_counter

from msgspec import Struct

from trt_dp.coordinator.order.ordering import answered
from trt_dp.coordinator.queue.blame import Blame
from trt_dp.coordinator.queue.dispatcher import Dispatcher
from trt_dp.coordinator.record.journal import Journal
from trt_dp.coordinator.record.recorder import Recorder
from trt_dp.coordinator.record.tally import Tally
from trt_dp.coordinator.workers.answers import checked, returned, without
from trt_dp.coordinator.workers.pool import Pool
from trt_dp.dataset.index import Index
from trt_dp.system.safe_text import brief
from trt_dp.types import Failure
from trt_dp.wire.messages import Done, GivenBack


class Desk(Struct, frozen=True, kw_only=True):
    """Where what comes in is written down."""

    index: Index
    journal: Journal
    tally: Tally
    recorder: Recorder


class Intake:
    """Every request is completed here, once: by its first answer, or as failed. A worker that lies is ended."""

    def __init__(self, dispatcher: Dispatcher, blame: Blame, desk: Desk) -> None:
        self._dispatcher = dispatcher
        self._blame = blame
        self._desk = desk
        self.gave_back = "No worker said why"

    def receive(self, pool: Pool, worker: int, done: Done) -> None:
        """Keep the answers of a worker, but for those that another worker gave before."""
        started = perf_counter()
        try:
            records, lines = checked(worker, done), done.lines
            late = self._dispatcher.beaten(worker, records["index"].tolist())
            if any(late):
                records, lines = without(done, records, late)
            beaten = self._dispatcher.finish(worker, records["index"].tolist())
        except ValueError as nonsense:
            pool.discard(worker, str(nonsense))
            return
        if not len(records):
            return
        self._dispatcher.learn(answered(worker, records))
        self._blame.answered()
        self._desk.journal.append(records, lines)
        for loser, index in beaten:
            pool.cancel(loser, index)
            self._desk.tally.beaten(loser, index)
        self._desk.tally.came(worker, records, started)

    def take_back(self, pool: Pool, worker: int, back: GivenBack) -> None:
        """Requests without an answer run again, except those that are given up."""
        try:
            indices = returned(worker, back)
            late = self._dispatcher.beaten(worker, indices.tolist())
            indices = indices[[not beaten for beaten in late]]
            hopeless = self._dispatcher.give_back(worker, indices.tolist(), back.blame)
        except ValueError as nonsense:
            pool.discard(worker, str(nonsense))
            return
        if not len(indices):
            return
        reason = brief(back.reason)
        self.gave_back = f"The last reason: {reason}"
        self._desk.tally.given_back(worker, indices, len(hopeless))
        self._desk.recorder.given_back(worker, len(indices), reason)
        tries = self._dispatcher.deaths_of
        self.fail(hopeless, {i: Failure("engine_error", reason, tries(i)) for i in hopeless})

    def fail(self, indices: list[int], errors: dict[int, Failure]) -> None:
        """Complete these requests as failed, without an answer from a worker."""
        if indices:
            self._desk.journal.append(*self._desk.index.failures(indices, errors))
            self._desk.tally.gave_up(len(indices))
