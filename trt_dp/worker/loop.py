"""The serving loop of a worker: one engine between the requests it is given and the coordinator."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from trt_dp import tokenizer
from trt_dp.dataset.request_line import check_ids
from trt_dp.engines import Engine
from trt_dp.errors import EngineRefused, RequestRefused
from trt_dp.types import EngineSpec, Failure, Placement, Request, Result, Timing
from trt_dp.wire.channel import Channel
from trt_dp.wire.messages import (
    Beat,
    Done,
    EngineFacts,
    Ready,
    Setup,
    Stop,
    ToWorker,
    Work,
)
from trt_dp.worker.answers import Answers, LineWriter
from trt_dp.worker.requests import RequestReader

_FACTS_SECONDS = 1.0
_GATHER_SECONDS = 0.03
_GATHER_SHARE = 16
_log = logging.getLogger(__name__)

MakeEngine = Callable[[EngineSpec, Placement], Engine]


class Loop:
    """A worker: loading, then serving, then stopping once it is told to stop."""

    def __init__(self, channel: Channel[ToWorker], setup: Setup, make: MakeEngine) -> None:
        self._channel = channel
        self._setup = setup
        self._make = make
        opened = tokenizer.open_tokenizer(setup.tokenizer) if setup.tokenizer else None
        self._reader = RequestReader(setup.source, opened)
        self._writer = LineWriter(setup, opened)
        self._in_flight: dict[int, tuple[Request, float, float]] = {}
        self._answers = Answers()
        self._enough = 1
        self._sent_at = self._facts_at = time.monotonic()
        self._stopping = False

    def run(self) -> None:
        """Load the engine, then take, step and answer until told to stop."""
        engine = self._load()
        while not self._stopping or self._in_flight:
            if self._channel.wait(0 if self._in_flight else self._setup.beat_seconds):
                for message in self._channel.receive():
                    self._take(engine, message)
            if self._in_flight:
                self._step(engine)
            self._report(engine)
            self._beat()
        engine.close()

    def _load(self) -> Engine:
        started = time.monotonic()
        spec, placement = self._setup.engine, self._setup.placement
        _log.info("loading %s %s on %s", spec.name, spec.path or "", placement)
        engine = self._make(spec, placement)
        if engine.capacity < 1:
            msg = f"the engine {spec.name} has a capacity of {engine.capacity} requests: it must be at least 1"
            raise EngineRefused(msg)
        self._enough = max(1, engine.capacity // _GATHER_SHARE)
        seconds = time.monotonic() - started
        _log.info("ready after %.3f s", seconds)
        self._send(Ready(engine.capacity, seconds, self._reader.sees_source))
        self._send_facts(engine)
        return engine

    def _take(self, engine: Engine, message: ToWorker) -> None:
        if isinstance(message, Stop):
            self._stopping = True
        if isinstance(message, Work):
            self._submit(engine, message)

    def _submit(self, engine: Engine, work: Work) -> None:
        """Submit requests to the engine; one that is refused is answered with the reason at once."""
        refused = []
        received = time.monotonic()
        for request in self._reader.read(work):
            self._in_flight[request.index] = (request, received, time.monotonic())
            try:
                check_ids(request)
                engine.submit(request)
            except RequestRefused as reason:
                refused.append(Result(request.index, error=Failure("refused", str(reason))))
            received = time.monotonic()
        self._answer(refused)

    def _step(self, engine: Engine) -> None:
        """Let the engine work; if it raises, the answers before that are sent first."""
        try:
            results = engine.step()
        except Exception:
            self._flush()
            raise
        self._answer(results)

    def _answer(self, results: list[Result]) -> None:
        for result in results:
            if result.index not in self._in_flight:
                msg = f"the engine answered request {result.index}, which is not in flight"
                raise RuntimeError(msg)
            request, received, submitted = self._in_flight.pop(result.index)
            timing = result.timing or _timing(received, submitted)
            line = self._writer.line(request, result, timing)
            self._answers.add(request, result, timing, line)

    def _report(self, engine: Engine) -> None:
        """Send the answers once there are enough of them, and facts before them now and then.

        A message costs the coordinator much more than an answer in it, so answers are gathered. They wait at
        most 0.03 s, and there are never so many that the engine could run out of requests.
        """
        if not self._answers.count or not self._is_time():
            return
        if not self._in_flight or time.monotonic() - self._facts_at > _FACTS_SECONDS:
            self._facts_at = time.monotonic()
            self._send_facts(engine)
        self._flush()

    def _is_time(self) -> bool:
        waited = time.monotonic() - self._answers.since
        enough = self._answers.count >= self._enough
        return enough or waited > _GATHER_SECONDS or not self._in_flight

    def _flush(self) -> None:
        if self._answers.count:
            self._send(self._answers.done())
            self._answers = Answers()

    def _send_facts(self, engine: Engine) -> None:
        """Send what the engine reports about itself, if it does."""
        facts = getattr(engine, "facts", None)
        if facts:
            self._send(EngineFacts(facts()))

    def _beat(self) -> None:
        """Show that this loop is alive if nothing else was sent for a while."""
        self._channel.flush()
        if time.monotonic() - self._sent_at >= self._setup.beat_seconds:
            self._send(Beat())

    def _send(self, message: Ready | EngineFacts | Done | Beat) -> None:
        self._channel.send(message)
        self._sent_at = time.monotonic()


def _timing(received: float, submitted: float) -> Timing:
    """The worker's own times, for an engine without: all tokens came at the end."""
    total = round(time.monotonic() - received, 6)
    return Timing(
        queue_seconds=round(submitted - received, 6),
        first_token_seconds=total,
        total_seconds=total,
    )
