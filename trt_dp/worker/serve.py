"""The worker: loads one engine, reads the requests it is given from the dataset itself, and answers.

Started as `python -m trt_dp.worker`, already confined to its devices and cores by its environment and
affinity; it learns from its environment where the coordinator is, and all else over the channel.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from trt_dp import plugins, tokenizer
from trt_dp.dataset import request_line as lines
from trt_dp.engines import Engine
from trt_dp.errors import BadLine, ChannelClosed, EngineRefused, RequestRefused, UsageError
from trt_dp.types import (
    RECORD,
    SPAN,
    EngineSpec,
    Failure,
    Placement,
    Request,
    Result,
    Spans,
    Timing,
)
from trt_dp.wire.channel import Channel, knock
from trt_dp.wire.environment import ADDRESS, KEY, LAUNCH, WORKER
from trt_dp.wire.messages import (
    Beat,
    Done,
    Fault,
    Hello,
    Ready,
    Refused,
    Setup,
    Stop,
    Told,
    ToWorker,
    Work,
)
from trt_dp.worker.source import SourceFile

_IDLE_SECONDS = 1.0
_TELL_SECONDS = 1.0
_GATHER_SECONDS = 0.03
_GATHER_SHARE = 16
_log = logging.getLogger(__name__)

Make = Callable[[EngineSpec, Placement], Engine]


def main() -> int:
    """The whole life of a worker process."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    environment = dict(os.environ)
    os.environ.pop(KEY, None)  # an engine's children have no use for it
    return serve(environment)


def load(spec: EngineSpec, placement: Placement) -> Engine:
    """Make the engine; raises EngineRefused or UsageError where it cannot be."""
    engine_class: Any = plugins.find(plugins.ENGINES, spec.name)
    options = plugins.convert(engine_class, spec.options)
    try:
        engine: Engine = engine_class(spec, placement, **options)
    except ValueError as error:
        msg = f"the engine {spec.name} will not load: {error}"
        raise EngineRefused(msg) from error
    return engine


def serve(environment: Mapping[str, str], make: Make = load) -> int:
    """Load, serve until told to stop, and give the exit status; never raises."""
    try:
        channel = knock(environment[ADDRESS], bytes.fromhex(environment[KEY]))
    except ChannelClosed as error:
        _log.info("%s", error)
        return 1
    try:
        channel.send(Hello(int(environment[WORKER]), int(environment[LAUNCH])))
        _Worker(channel, _setup(channel), make).run()
    except ChannelClosed as closed:
        _log.info("the coordinator is gone: %s", closed)
        return 1
    except (EngineRefused, UsageError) as error:
        _log.info("refused: %s", error)
        _last_words(channel, Refused(str(error), usage=isinstance(error, UsageError)))
        return 1
    except Exception as error:
        _log.exception("the worker dies of this")
        _last_words(channel, Fault(f"{type(error).__name__}: {error}"))
        return 1
    finally:
        channel.close()
    return 0


def _setup(channel: Channel[ToWorker]) -> Setup:
    while True:
        for message in channel.receive():
            if isinstance(message, Setup):
                return message
        channel.wait(_IDLE_SECONDS)


def _last_words(channel: Channel[ToWorker], message: Refused | Fault) -> None:
    """Say why, as far as the coordinator still listens."""
    with contextlib.suppress(ChannelClosed):
        channel.send(message)
        _finish_sending(channel)


def _finish_sending(channel: Channel[ToWorker]) -> None:
    while channel.sending:
        channel.wait(_IDLE_SECONDS)
        channel.flush()


class _Worker:
    """An engine between a file and a channel: loading, then serving, then stopping once told so."""

    def __init__(self, channel: Channel[ToWorker], setup: Setup, make: Make) -> None:
        self._channel = channel
        self._setup = setup
        self._make = make
        self._source = SourceFile(setup.source)
        self._tokenizer = tokenizer.open_tokenizer(setup.tokenizer) if setup.tokenizer else None
        self._live: dict[int, tuple[Request, float, float]] = {}
        self._answers = _Answers()
        self._enough = 1
        self._spoke = self._told = time.monotonic()
        self._stopping = False

    def run(self) -> None:
        """Load the engine, then take, step and answer until told to stop."""
        engine = self._load()
        while not self._stopping or self._live:
            if self._channel.wait(0 if self._live else self._setup.beat_seconds):
                for message in self._channel.receive():
                    self._take(engine, message)
            if self._live:
                self._step(engine)
            self._report(engine)
            self._beat()
        engine.close()
        _finish_sending(self._channel)
        _log.info("stopped")

    def _load(self) -> Engine:
        started = time.monotonic()
        spec, placement = self._setup.engine, self._setup.placement
        _log.info("loading %s %s on %s", spec.name, spec.path or "", placement)
        engine = self._make(spec, placement)
        if engine.capacity < 1:
            msg = f"the engine {spec.name} takes {engine.capacity} requests at once: it must be 1 or more"
            raise EngineRefused(msg)
        self._enough = max(1, engine.capacity // _GATHER_SHARE)
        seconds = time.monotonic() - started
        _log.info("ready after %.3f s", seconds)
        self._send(Ready(engine.capacity, seconds, self._source.seen))
        self._tell(engine)
        return engine

    def _step(self, engine: Engine) -> None:
        """Go on a little; if the engine dies of it, what it answered before is told first."""
        try:
            results = engine.step()
        except Exception:
            self._flush()
            raise
        self._answer(results)

    def _report(self, engine: Engine) -> None:
        """Send the answers, once they are worth the coordinator's time; what the engine says of itself goes before.

        A message costs the coordinator much more than an answer in it. So answers gather, but for no longer
        than anyone would notice, and never so many that the engine could run dry: nor if they are the last.
        """
        due = time.monotonic() - self._answers.since > _GATHER_SECONDS
        if not self._answers.count or not (
            due or self._answers.count >= self._enough or not self._live
        ):
            return
        if not self._live or time.monotonic() - self._told > _TELL_SECONDS:
            self._told = time.monotonic()
            self._tell(engine)
        self._flush()

    def _flush(self) -> None:
        if self._answers.count:
            self._send(self._answers.done())
            self._answers = _Answers()

    def _tell(self, engine: Engine) -> None:
        """What the engine says of itself, if it is one that does."""
        facts = getattr(engine, "facts", None)
        if facts:
            self._send(Told(facts()))

    def _take(self, engine: Engine, message: ToWorker) -> None:
        if isinstance(message, Stop):
            self._stopping = True
        if isinstance(message, Work):
            self._submit(engine, np.frombuffer(message.spans, SPAN), message.lines)

    def _submit(self, engine: Engine, spans: Spans, shipped: bytes | None) -> None:
        """Read and submit; a line or a request that will not do is answered with its reason at once."""
        refused = []
        for index, tokens, line in self._read(spans, shipped):
            received = time.monotonic()
            request = self._parse(index, line, tokens)
            self._live[index] = (request, received, time.monotonic())
            try:
                lines.check_ids(request)
                engine.submit(request)
            except RequestRefused as reason:
                refused.append(Result(index, error=Failure("refused", str(reason))))
        self._answer(refused)

    def _parse(self, index: int, line: bytes, tokens: int) -> Request:
        try:
            request = lines.parse(index, line, tokens, self._tokenize)
            return lines.numbered(request) if self._setup.source.document else request
        except BadLine as reason:
            raise UsageError(lines.CHANGED.format(self._setup.source.path)) from reason

    def _tokenize(self, text: str) -> list[int]:
        return self._tokenizer.encode([text], special=True)[0] if self._tokenizer else []

    def _read(self, spans: Spans, shipped: bytes | None) -> Iterator[tuple[int, int, bytes]]:
        """Index, number of ids and bytes of each line, from the message where it brings them, else from the file."""
        if shipped is None:
            shipped = self._source.read(spans)
        start = 0
        for index, _, length, tokens in spans.tolist():
            yield index, tokens, shipped[start : start + length]
            start += length

    def _answer(self, results: list[Result]) -> None:
        for result in results:
            if result.index not in self._live:
                msg = f"the engine answered request {result.index}, which it does not hold"
                raise RuntimeError(msg)
            request, received, submitted = self._live.pop(result.index)
            timing = result.timing or _timing(received, submitted)
            self._answers.add(request, result, timing, self._line(request, result, timing))

    def _line(self, request: Request, result: Result, timing: Timing) -> _Line:
        if result.error:
            return _Line(lines.failure(request.task_id, result.error))
        text = None
        if self._setup.detokenize and self._tokenizer:
            text = self._tokenizer.decode(result.output_ids)
        line = lines.answer(request, result, text)
        if not self._setup.timing:
            return _Line(line)
        timed = lines.with_timing(line, self._setup.placement.worker, timing)
        return _Line(timed, len(timed) - len(line))

    def _beat(self) -> None:
        """Show that this loop turns, when there was nothing else to say for a while."""
        self._channel.flush()
        if time.monotonic() - self._spoke >= self._setup.beat_seconds:
            self._send(Beat())

    def _send(self, message: Ready | Told | Done | Beat) -> None:
        self._channel.send(message)
        self._spoke = time.monotonic()


class _Line(NamedTuple):
    """An answer as it will stand in the results, and how much of it only tells of this run."""

    content: bytes
    timing_length: int = 0


class _Answers:
    """Answers on their way to the coordinator; `since` is when the first of them came."""

    def __init__(self) -> None:
        self.since = 0.0
        self._lines: list[bytes] = []
        self._records: list[tuple[int, int, int, int, float, float, float, int, bool]] = []

    @property
    def count(self) -> int:
        return len(self._lines)

    def add(self, request: Request, result: Result, timing: Timing, line: _Line) -> None:
        """One more, as its line."""
        self.since = self.since or time.monotonic()
        self._lines.append(line.content)
        self._records.append(
            (
                result.index,
                len(line.content),
                len(request.input_ids),
                len(result.output_ids),
                timing.queue_seconds,
                timing.first_token_seconds,
                timing.total_seconds,
                line.timing_length,
                result.error is not None,
            )
        )

    def done(self) -> Done:
        """All of them as a message."""
        return Done(np.array(self._records, RECORD).tobytes(), b"".join(self._lines))


def _timing(received: float, submitted: float) -> Timing:
    """What the worker itself can say: the engine started when it took the request, and all tokens came at the end."""
    total = round(time.monotonic() - received, 6)
    return Timing(round(submitted - received, 6), total, total)
