"""The serving loop of a worker: one engine between the requests it is given and the coordinator."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
from msgspec import structs

from trt_dp import tokenizer
from trt_dp.engines import Engine
from trt_dp.engines.about import about
from trt_dp.errors import EngineRefused, RequestRefused
from trt_dp.system.redact import scrub
from trt_dp.system.safe_text import brief
from trt_dp.types import Blame, EngineSpec, Failure, Placement, Request, Result, Returned
from trt_dp.wire.channel import Channel
from trt_dp.wire.messages import (
    Beat,
    Cancel,
    Capacity,
    EngineFacts,
    GivenBack,
    Ready,
    Requests,
    Setup,
    Stop,
    ToCoordinator,
    ToWorker,
    Work,
)
from trt_dp.worker.answers import Answers, LineWriter
from trt_dp.worker.asked import Asked, Row, own_timing, place_of, timing_of
from trt_dp.worker.prompts import Prompts
from trt_dp.worker.requests import RequestReader
from trt_dp.worker.resolve import Rules, asked_of
from trt_dp.worker.waiting import wait_for_requests

_FACTS_SECONDS = 1.0
_GATHER_SECONDS = 0.03
_GATHER_SHARE = 16
_PAUSED_SECONDS = 0.25
_PAUSED = "the engine takes no requests now"
_CANCELLED = "another worker answered it first"
_TEXTS_AT_ONCE = (
    16  # tokenized between two steps: enough to stay ahead, too few to keep an engine waiting
)
_log = logging.getLogger(__name__)

MakeEngine = Callable[[EngineSpec, Placement], Engine]


class Loop:
    """A worker: loading, then serving, then stopping once it is told to stop.

    A row is unread, then its requests wait, then they are the engine's until they have results.
    """

    def __init__(
        self,
        channel: Channel[ToWorker],
        setup: Setup,
        make: MakeEngine,
        early: Sequence[ToWorker] = (),
    ) -> None:
        self._channel = channel
        self._setup = setup
        self._make = make
        self._early = early
        if setup.source:
            self._open(Requests(setup.source, setup.tokenizer))
        self._rows: deque[Row] = deque()
        self._waiting: deque[Request] = deque()
        self._asked: dict[int, Asked] = {}
        self._submitted = 0
        self._unwanted = 0  # rows that are cancelled, in an engine that cannot cancel
        self._answers = Answers()
        self._enough = 1
        self._capacity = 0
        self._sent_at = self._facts_at = time.monotonic()
        self._stopping = False

    def _open(self, requests: Requests) -> None:
        """Open what it takes to read these requests and to write their answers."""
        setup, named = self._setup, requests.tokenizer
        opened = tokenizer.open_tokenizer(named) if named else None
        self._rules = Rules(
            engine=setup.engine,
            defaults=setup.defaults,
            detokenize=setup.detokenize,
            hidden=opened.hidden if opened else {},
        )
        self._reader = RequestReader(requests.source)
        self._prompts = Prompts(setup.engine.path, opened, setup.defaults)
        self._writer = LineWriter(setup, opened)

    @property
    def _in_flight(self) -> bool:
        """Whether any row is not answered yet."""
        return bool(self._asked or self._rows)

    def run(self) -> None:
        """Load the engine, then take, step and answer until told to stop."""
        engine = self._load()
        while not self._stopping or self._rows or len(self._asked) > self._unwanted:
            rest = getattr(engine, "idle_seconds", None)
            if self._channel.wait(self._patience(rest)):
                for message in self._channel.receive():
                    self._take(message)
                    if isinstance(message, Cancel):
                        self._cancel(engine, np.frombuffer(message.indices, np.int64).tolist())
            self._prepare()
            self._look_at_capacity(engine)
            self._submit(engine)
            if self._submitted or rest is not None:
                self._step(engine)
            self._report(engine)
            self._beat()
        engine.close()

    def _patience(self, rest: float | None) -> float:
        """How long to wait for a message: an engine that takes nothing now may change its mind at any time."""
        if self._in_flight:
            return 0
        beat = self._setup.beat_seconds
        if rest is not None:
            return min(beat, rest)
        return beat if self._capacity else min(beat, _PAUSED_SECONDS)

    def _load(self) -> Engine:
        started = time.monotonic()
        spec, placement = self._setup.engine, self._setup.placement
        _log.info("loading %s %s on %s", spec.name, spec.path or "", placement)
        engine = self._make(spec, placement)
        if engine.capacity < 1:
            msg = f"the engine {spec.name} has a capacity of {engine.capacity} requests: it must be at least 1"
            raise EngineRefused(msg)
        seconds = time.monotonic() - started
        if not self._setup.source:
            self._open(wait_for_requests(self._channel, self._early, self._beat))
        self._keep_capacity(engine.capacity)
        self._prompts.takes = about(engine).takes
        self._rules = structs.replace(self._rules, context=getattr(engine, "context", None))
        _log.info("ready after %.3f s", seconds)
        cache = getattr(engine, "kv_tokens", 0)
        self._send(Ready(engine.capacity, seconds, self._reader.sees_source, cache))
        self._send_facts(engine)
        return engine

    def _take(self, message: ToWorker) -> None:
        if isinstance(message, Stop):
            self._stopping = True
        if isinstance(message, Work):
            received = time.monotonic()
            for index, fields in self._reader.read(message):
                self._rows.append(Row(index, fields, received))
                received = time.monotonic()

    def _cancel(self, engine: Engine, indices: list[int]) -> None:
        """Give these rows back at once, or when they end if the engine cannot cancel; an answer may be on its way."""
        unread = {row.index for row in self._rows}.intersection(indices)
        self._rows = deque(row for row in self._rows if row.index not in unread)
        asked = [self._asked[index] for index in indices if index in self._asked]
        for row in asked:
            row.returned = Returned(row.index, _CANCELLED)
            row.cancelled = True
            self._withdraw(engine, row)
        self._unwanted += sum(row.waiting > 0 for row in asked)
        done = [self._asked.pop(row.index) for row in asked if not row.waiting]
        if unread or done:
            packed = np.array([*unread, *(row.index for row in done)], np.int64).tobytes()
            self._send(GivenBack(packed, _CANCELLED, "none"))

    def _withdraw(self, engine: Engine, row: Asked) -> None:
        """Take back the requests of a row: those that wait here, and what the engine can cancel."""
        waiting = {one.index for one in self._waiting}
        cancel = getattr(engine, "cancel", None)
        for request, result in zip(row.requests, row.results, strict=True):
            if result or not (request.index in waiting or cancel):
                continue
            row.waiting -= 1
            if request.index not in waiting and cancel:
                cancel(request.index)
                self._submitted -= 1
        mine = {request.index for request in row.requests}
        self._waiting = deque(one for one in self._waiting if one.index not in mine)

    def _prepare(self) -> None:
        """Make requests of the next rows: all that are ids already, and a few texts."""
        rows: list[Row] = []
        texts = 0
        while self._rows and texts < _TEXTS_AT_ONCE:
            rows.append(self._rows.popleft())
            texts += rows[-1].fields.input_ids is None
        for row, prompt in zip(rows, self._prompts.of(row.fields for row in rows), strict=True):
            try:
                if isinstance(prompt, RequestRefused):
                    raise prompt
                asked = asked_of(row, prompt, self._rules)
            except RequestRefused as reason:
                self._refuse(row, str(reason))
                continue
            self._asked[row.index] = asked
            self._waiting.extend(asked.requests)

    def _refuse(self, row: Row, reason: str) -> None:
        """Answer a row at once with the reason."""
        task_id = row.index if row.fields.task_id is None else row.fields.task_id
        ids = row.fields.input_ids
        refused = Request(
            index=row.index,
            task_id=task_id,
            input_ids=np.empty(0, np.int64) if ids is None else ids,
            output_tokens=1,
        )
        self._asked[row.index] = Asked(
            index=row.index,
            task_id=task_id,
            received=row.received,
            wants_text=False,
            more={},
            requests=(refused,),
            results=[None],
            waiting=1,
        )
        self._submitted += 1
        self._answer([Result(row.index, error=Failure("refused", reason))])

    def _look_at_capacity(self, engine: Engine) -> None:
        """Tell of a new capacity; at 0, what the engine does not have yet goes back."""
        if engine.capacity != self._capacity:
            self._keep_capacity(engine.capacity)
            self._send(Capacity(self._capacity))
            self._send_facts(engine)
        if self._waiting and not self._capacity:
            why = getattr(engine, "paused_because", _PAUSED)
            waiting = [Returned(request.index, why) for request in self._waiting]
            self._waiting.clear()
            self._submitted += len(waiting)
            self._answer(waiting)

    def _keep_capacity(self, capacity: int) -> None:
        self._capacity, self._enough = capacity, max(1, capacity // _GATHER_SHARE)

    def _submit(self, engine: Engine) -> None:
        """Submit requests while there is room; one that is refused is answered with the reason at once."""
        refused: list[Result] = []
        while self._waiting and self._submitted - len(refused) < self._capacity:
            request = self._waiting.popleft()
            asked = self._asked[place_of(request.index)[0]]
            asked.submitted = asked.submitted or time.monotonic()
            self._submitted += 1
            try:
                engine.submit(request)
            except RequestRefused as reason:
                refused.append(Result(request.index, error=Failure("refused", str(reason))))
        self._answer(refused)

    def _step(self, engine: Engine) -> None:
        """Let the engine work; if it raises, the answers before that are sent first."""
        try:
            results = engine.step()
        except Exception:
            self._flush()
            raise
        self._answer(results)

    def _answer(self, results: Sequence[Result | Returned]) -> None:
        """Write the answers of the rows that now have all their results, and give back those without an answer."""
        completed = [asked for result in results if (asked := self._completed(result))]
        if back := [asked for asked in completed if asked.returned]:
            completed = [asked for asked in completed if not asked.returned]
            self._give_back(back)
        for asked, answers in zip(completed, self._writer.answers(completed), strict=True):
            timing = timing_of(asked, own_timing(asked))
            self._answers.add(asked, timing, self._writer.line(asked, answers, timing))

    def _give_back(self, rows: list[Asked]) -> None:
        """Send rows back for another try, a message for each reason."""
        reasons: dict[tuple[str, Blame], list[int]] = {}
        for row in rows:
            if row.returned:
                why = (brief(row.returned.reason), row.returned.blame)
                reasons.setdefault(why, []).append(row.index)
        for (reason, blame), indices in reasons.items():
            packed = np.array(indices, np.int64).tobytes()
            self._send(GivenBack(packed, scrub(reason, self._setup.engine.options), blame))

    def _completed(self, result: Result | Returned) -> Asked | None:
        """The row of a result, if that was the last that it waited for."""
        index, copy = place_of(result.index)
        asked = self._asked.get(index)
        if asked is None or copy >= len(asked.results) or asked.results[copy]:
            msg = f"the engine answered request {result.index}, which is not in flight"
            raise RuntimeError(msg)
        if isinstance(result, Returned):
            asked.returned = asked.returned or result
            result = Result(result.index)  # the row is not written
        asked.results[copy] = result
        asked.waiting -= 1
        self._submitted -= 1
        if asked.waiting:
            return None
        self._unwanted -= asked.cancelled
        return self._asked.pop(index)

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

    def _send(self, message: ToCoordinator) -> None:
        self._channel.send(message)
        self._sent_at = time.monotonic()
