"""Spreads requests over models of a Triton server, and gives back what has no answer for a passing reason."""

from __future__ import annotations

import importlib.util
import itertools
import time
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from trt_dp.engines.triton.described import Model
from trt_dp.engines.triton.lanes import Lane, Lanes
from trt_dp.engines.triton.over_grpc import GrpcTransport
from trt_dp.engines.triton.over_http import HttpTransport
from trt_dp.engines.triton.probe import Probe, ask
from trt_dp.engines.triton.transport import Call, Outcome, Problem, Tensor, Transport
from trt_dp.engines.triton.wishes import Wishes
from trt_dp.errors import EngineRefused
from trt_dp.system.extras import pip_install
from trt_dp.types import Facts, Failure, Request, Result, Returned

_POLL_SECONDS = 0.05
_AWAY_SECONDS = 0.25
_FATAL = 5  # lost answers to one request
_FIRST_ANSWER_SECONDS = 120.0


class Form(Protocol):
    """How requests and answers look to a kind of model."""

    takes_ids: bool

    def outputs(self, request: Request) -> tuple[str, ...]:
        """The tensors that are asked for."""

    def inputs(self, model: Model, request: Request, *, stream: bool) -> tuple[Tensor, ...]:
        """A request's tensors; raises RequestRefused for what the model cannot be asked."""

    def result(self, model: Model, request: Request, outcome: Outcome) -> Result | Returned:
        """What came back."""


class _Sent(Struct, frozen=True):
    """A request in flight."""

    request: Request
    lane: Lane


class Driver:
    """The models of one server: each answers or not, and gets requests only while it does."""

    def __init__(self, form: Form, wishes: Wishes) -> None:
        self._form, self._stream = form, wishes.stream
        make = _transport(wishes)
        self._transport = make()
        try:
            lanes = _lanes(self._transport, form, wishes)
        except BaseException:
            self._transport.close()
            raise
        self._lanes = Lanes(lanes, wishes.away_seconds)
        self._probe = Probe(lanes, make, stream=wishes.stream)
        self._numbers = itertools.count(1)
        self._sent: dict[int, _Sent] = {}
        self._back: list[Returned] = []
        self._lost: Counter[int] = Counter()

    @property
    def capacity(self) -> int:
        """What the models take together now; 0 while none answers, and an error once that lasts."""
        return self._lanes.capacity

    @property
    def paused_because(self) -> str:
        """What the models said last that do not answer."""
        return self._lanes.complaints()

    def submit(self, request: Request) -> None:
        """Send it to the model with the fewest requests."""
        lane = self._lanes.choose()
        if lane is None:
            self._back.append(
                Returned(request.index, self.paused_because or "no model has room now")
            )
            return
        inputs = self._form.inputs(lane.model, request, stream=self._stream)
        call = Call(
            number=next(self._numbers),
            url=lane.url,
            model=lane.model,
            inputs=inputs,
            outputs=self._form.outputs(request),
            stream=self._stream,
        )
        self._transport.send(call)
        lane.take()
        self._sent[call.number] = _Sent(request, lane)

    def step(self) -> list[Result | Returned]:
        """Wait a moment for answers."""
        back, self._back = self._back, []
        outcomes = self._transport.poll(0 if back else _POLL_SECONDS)
        ended = [self._end(one) for one in outcomes if one.number in self._sent]
        return [*back, *ended, *self._forsake()]

    def facts(self) -> Facts:
        """How many requests each model answered."""
        return {f"answered by {lane.model.name}": lane.answered for lane in self._lanes}

    def close(self) -> None:
        """Stop looking at servers, and close the connections."""
        self._probe.close()
        self._transport.close()

    def _end(self, outcome: Outcome) -> Result | Returned:
        sent = self._sent.pop(outcome.number)
        lane, problem, index = sent.lane, outcome.problem, sent.request.index
        lane.give()
        if problem is None:
            lane.answer()
            return self._form.result(lane.model, sent.request, outcome)
        message = f"{lane}: {problem.message}"
        if problem.trouble == "refused":
            return Result(index, error=Failure("refused", message))
        blame = lane.trouble(problem)
        if problem.trouble == "lost" and self._is_fatal(index):
            blame = "request"
        return Returned(index, message, blame)

    def _forsake(self) -> list[Returned]:
        """What is in flight in models that a probe found dead: it may never be answered."""
        dead = [number for number, sent in self._sent.items() if sent.lane.dead]
        forsaken = []
        for number in dead:
            self._transport.cancel(number)
            sent = self._sent.pop(number)
            sent.lane.give()
            forsaken.append(Returned(sent.request.index, f"{sent.lane}: {sent.lane.why}"))
        return forsaken

    def _is_fatal(self, index: int) -> bool:
        """Whether the answer to this request was lost so often that it may be what ends the server."""
        self._lost[index] += 1
        return self._lost[index] >= _FATAL


def _transport(wishes: Wishes) -> Callable[[], Transport]:
    if wishes.over == "http":
        return lambda: HttpTransport(wishes.silent_seconds)
    if importlib.util.find_spec("tritonclient") is None:
        msg = (
            f"--set over=grpc needs tritonclient: {pip_install('triton')}, or leave it out for HTTP"
        )
        raise EngineRefused(msg)
    return lambda: GrpcTransport(wishes.silent_seconds)


def _lanes(transport: Transport, form: Form, wishes: Wishes) -> list[Lane]:
    """The models, each of which answers now; raises EngineRefused with what keeps one from it."""
    until = time.monotonic() + wishes.wait_seconds
    found = [_find(transport, wishes.url, name, until) for name in wishes.models]
    for model in found:
        _check_kind(model, form, stream=wishes.stream)
    lanes = [Lane(wishes.url, model, wishes.concurrency or model.room) for model in found]
    for lane in lanes:
        if problem := ask(
            transport, lane, stream=wishes.stream, answer_seconds=_FIRST_ANSWER_SECONDS
        ):
            msg = f"{lane} does not answer: {problem.message}"
            raise EngineRefused(msg)
    return lanes


def _find(transport: Transport, url: str, name: str, until: float) -> Model:
    """Ask until the server has said something of its model, or for so long: it may just be starting."""
    found = transport.describe(url, name)
    while isinstance(found, Problem) and found.trouble in ("away", "lost", "busy"):
        if time.monotonic() >= until:
            break
        time.sleep(_AWAY_SECONDS)
        found = transport.describe(url, name)
    if isinstance(found, Problem):
        msg = f"the model {name} at {url} cannot be used: {found.message}"
        raise EngineRefused(msg)
    return found


def _check_kind(model: Model, form: Form, *, stream: bool) -> None:
    if model.takes_ids != form.takes_ids:
        takes, engine = ("ids", "triton") if model.takes_ids else ("text", "triton-text")
        msg = f"the model {model.name} takes {takes}: use --engine {engine}"
        raise EngineRefused(msg)
    if stream and not model.decoupled and model.takes_ids:
        msg = (
            f"the model {model.name} is not decoupled, so it cannot stream: leave --set stream out"
        )
        raise EngineRefused(msg)
    if stream and not model.takes_ids and not model.accumulates:
        msg = (
            f"the model {model.name} streams each token as a text of its own, which loses spaces and letters: leave "
            "--set stream out, or use tensorrt_llm_bls with accumulate_tokens"
        )
        raise EngineRefused(msg)
