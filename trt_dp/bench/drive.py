"""Sends requests at their pace and turns each reply into a record: the only file of this room that uses the network."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence

import msgspec
from msgspec import Struct

from trt_dp.bench.asking import PATHS, body
from trt_dp.bench.pace import Pace
from trt_dp.bench.prompts import Prompt
from trt_dp.bench.reading import Answer, Count, read_stream, server_words
from trt_dp.bench.record import Error, Record
from trt_dp.bench.result import Served
from trt_dp.errors import UNREADABLE, UsageError
from trt_dp.web import Client, Exchange, Limits, Reply, Secret, Target

_LOOK_SECONDS = 0.2
_CHECK_SECONDS = 10.0


class Standing(Struct, frozen=True, kw_only=True):
    """How far a measurement is."""

    done: int
    failed: int
    total: int
    in_flight: int
    output_tokens: int
    seconds: float


Watch = Callable[[Standing], None]


class Line(Struct, frozen=True, kw_only=True):
    """How requests get to the servers."""

    client: Client
    targets: list[Target]
    keys: list[Secret | None]  # one for each target
    limits: Limits = Limits()
    count: Count | None = None  # of a text's tokens, for servers that send no usage
    signals: Sequence[int] = ()  # those that stop the measurement, as they come


class _Model(Struct, frozen=True):
    id: str


class _Models(Struct, frozen=True):
    data: list[_Model] = []


class _Sent(Struct, frozen=True, kw_only=True):
    number: int
    endpoint: int
    prompt: Prompt
    due: float | None


def check_reachable(line: Line) -> None:
    """Refuse endpoints where nothing answers, before any request is made."""
    for place in range(len(line.targets)):
        ask_models(line, place)


def model_of(line: Line) -> str:
    """The model that the first server has; refused if it has several, or does not tell."""
    reply = ask_models(line, 0)
    names: list[str] = []
    with contextlib.suppress(*UNREADABLE):
        names = [one.id for one in msgspec.json.decode(reply.body, type=_Models).data]
    if len(names) == 1:
        return names[0]
    told = f"has the models {', '.join(names)}" if names else "does not tell its models"
    msg = f"{line.targets[0]} {told}: choose one with --model"
    raise UsageError(msg)


def ask_models(line: Line, place: int) -> Reply:
    """What a server says about its models; refused where nothing answers."""
    to, key = line.targets[place], line.keys[place]
    limits = Limits(
        connect_seconds=_CHECK_SECONDS, silent_seconds=_CHECK_SECONDS, total_seconds=_CHECK_SECONDS
    )
    asked = Exchange(to=to, path="/models", method="GET", key=key, limits=limits)
    line.client.submit(asked)
    replies: list[Reply] = []
    while not replies:
        replies = line.client.poll(_LOOK_SECONDS)
    if fault := replies[0].fault:
        msg = f"{to} does not answer ({fault.message}): start the server, or correct --endpoint"
        raise UsageError(msg)
    return replies[0]


def drive(
    line: Line, served: Served, prompts: Sequence[Prompt], pace: Pace, watch: Watch
) -> list[Record]:
    """Send all prompts and wait for every one; records are in the order of the prompts.

    Once `line.signals` has one, what is in flight is left, and only the records so far come back.
    """
    run = _Run(line, served, prompts)
    while not pace.over and not line.signals:
        run.send(pace)
        for reply in line.client.poll(min(_LOOK_SECONDS, pace.wait(run.now()))):
            pace.finished(run.take(reply))
        watch(run.standing(pace))
    return sorted(run.records, key=lambda record: record.number)


class _Run:
    """One pass over the prompts: the records so far."""

    def __init__(self, line: Line, served: Served, prompts: Sequence[Prompt]) -> None:
        self.records: list[Record] = []
        self._line, self._served, self._prompts = line, served, prompts
        self._failed = self._tokens = 0
        self._began = time.monotonic()

    def now(self) -> float:
        return time.monotonic() - self._began

    def send(self, pace: Pace) -> None:
        for number, endpoint in pace.take(self.now()):
            prompt = self._prompts[number]
            sent = _Sent(number=number, endpoint=endpoint, prompt=prompt, due=pace.due(number))
            self._line.client.submit(
                Exchange(
                    to=self._line.targets[endpoint],
                    path=PATHS[self._served.api],
                    body=body(self._served, prompt),
                    stream=True,
                    key=self._line.keys[endpoint],
                    tag=sent,
                    limits=self._line.limits,
                )
            )

    def take(self, reply: Reply) -> int:
        """Keep a reply's record; gives its endpoint."""
        sent: _Sent = reply.exchange.tag
        record = _record(reply, sent, self._began, _answer(reply, self._line.count))
        self.records.append(record)
        self._failed += record.error is not None
        self._tokens += record.output_tokens
        return sent.endpoint

    def standing(self, pace: Pace) -> Standing:
        return Standing(
            done=len(self.records),
            failed=self._failed,
            total=len(self._prompts),
            in_flight=sum(pace.in_flight),
            output_tokens=self._tokens,
            seconds=self.now(),
        )


def _answer(reply: Reply, count: Count | None) -> Answer:
    key = reply.exchange.key
    if reply.fault is not None:
        return Answer(error=_scrubbed(Error(reply.fault.kind, reply.fault.message), key))
    if reply.status != 200:
        said = Error(f"HTTP {reply.status}", server_words(reply.body), reply.status)
        return Answer(error=_scrubbed(said, key))
    if not reply.events:
        return Answer(error=Error("protocol", "the server did not stream its answer"))
    return read_stream(reply.events, reply.times, count)


def _scrubbed(error: Error, key: Secret | None) -> Error:
    if key is None:
        return error
    return msgspec.structs.replace(error, message=key.scrub(error.message))


def _record(reply: Reply, sent: _Sent, began: float, answer: Answer) -> Record:
    start = reply.submitted
    return Record(
        number=sent.number,
        endpoint=sent.endpoint,
        asked_input_tokens=sent.prompt.input_tokens,
        asked_output_tokens=sent.prompt.output_tokens,
        sent=start - began,
        due=sent.due,
        first_byte=reply.first_byte - start if reply.first_byte else None,
        chunks=[at - start for at in answer.moments],
        done=reply.done - start,
        input_tokens=answer.input_tokens or sent.prompt.input_tokens,
        output_tokens=0 if answer.error else answer.output_tokens or 0,
        finish_reason=answer.finish_reason,
        text=answer.text,
        error=answer.error,
    )
