"""The engine `triton`: a worker whose model runs in a Triton server."""

from __future__ import annotations

import importlib.util
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from msgspec import Struct

from trt_dp.engines.triton.answers import ids_result
from trt_dp.engines.triton.described import Model
from trt_dp.engines.triton.inputs import CORE_OUTPUTS, core_inputs
from trt_dp.engines.triton.lanes import Lane, Lanes
from trt_dp.engines.triton.over_grpc import GrpcTransport
from trt_dp.engines.triton.over_http import HttpTransport
from trt_dp.engines.triton.probe import Probe, ask
from trt_dp.engines.triton.transport import Call, Outcome, Problem, Transport
from trt_dp.engines.trtllm.inflight import Ending, ending_of
from trt_dp.engines.trtllm.stop_ids import stop_ids
from trt_dp.errors import EngineRefused
from trt_dp.types import EngineSpec, Facts, Failure, Placement, Request, Result, Returned

_POLL_SECONDS = 0.05
_AWAY_SECONDS = 0.25
_FATAL = 5  # lost answers to one request
_NO_ENDPOINT = "the engine triton needs a server: --set endpoint=http://127.0.0.1:8000"


class _Sent(Struct, frozen=True):
    """A request in flight."""

    request: Request
    ending: Ending
    lane: Lane


class TritonEngine:
    """Spreads requests over models of Triton servers.

    `models` names the models of a server, with commas between them; `over` chooses HTTP or gRPC, `stream` lets the
    tokens come one by one. `end_id` is the EOS of the core model, which knows none itself; with --engine-path it is
    read from that folder.
    """

    samples = frozenset(
        {
            *("temperature", "top_k", "top_p", "seed", "min_tokens"),
            *("repetition_penalty", "presence_penalty", "frequency_penalty"),
        }
    )
    packages = ()

    def __init__(
        self,
        spec: EngineSpec,
        placement: Placement,
        *,
        endpoint: str = "",
        models: str = "tensorrt_llm",
        over: Literal["http", "grpc"] = "http",
        stream: bool = False,
        concurrency: int = 0,
        end_id: int = -1,
        silent_seconds: float = 600.0,
        patience_seconds: float = 60.0,
    ) -> None:
        del placement
        if not endpoint:
            raise EngineRefused(_NO_ENDPOINT)
        self._stream = stream
        self._eos = _eos(spec, end_id)
        make = _transport(over, silent_seconds)
        self._transport = make()
        places = [(url, name) for url in _listed(endpoint) for name in _listed(models)]
        try:
            _wait(self._transport, places, patience_seconds)
            lanes = [_lane(self._transport, *place, concurrency) for place in places]
            for lane in lanes:
                _check(lane, self._transport, stream=stream)
        except BaseException:
            self._transport.close()
            raise
        self._lanes = Lanes(lanes, patience_seconds)
        self._probe = Probe(lanes, make)
        self._sent: dict[int, _Sent] = {}
        self._back: list[Returned] = []
        self._lost: Counter[int] = Counter()

    @property
    def capacity(self) -> int:
        """What the servers take together now; 0 while none answers."""
        return self._lanes.capacity

    def submit(self, request: Request) -> None:
        """Send it to the model with the fewest requests."""
        lane = self._lanes.choose()
        if lane is None:
            self._back.append(Returned(request.index, "no server has room now"))
            return
        ending = ending_of(request, self._eos)
        inputs = core_inputs(lane.model, request, ending, stream=self._stream)
        self._transport.send(
            Call(
                index=request.index,
                url=lane.url,
                model=lane.model,
                inputs=inputs,
                outputs=CORE_OUTPUTS,
                stream=self._stream,
            )
        )
        lane.in_flight += 1
        self._sent[request.index] = _Sent(request, ending, lane)

    def step(self) -> list[Result | Returned]:
        """Wait a moment for answers."""
        back, self._back = self._back, []
        outcomes = self._transport.poll(0 if back else _POLL_SECONDS)
        return [*back, *map(self._end, outcomes)]

    def facts(self) -> Facts:
        """How many requests each model answered."""
        return {f"answered by {lane}": lane.answered for lane in self._lanes}

    def close(self) -> None:
        """Stop looking at servers, and close the connections."""
        self._probe.close()
        self._transport.close()

    def _end(self, outcome: Outcome) -> Result | Returned:
        sent = self._sent.pop(outcome.index)
        sent.lane.in_flight -= 1
        problem = outcome.problem
        if problem is None:
            sent.lane.answer()
            return ids_result(sent.request, sent.ending, sent.lane.model, outcome)
        message = f"{sent.lane}: {problem.message}"
        if problem.trouble == "refused":
            return Result(outcome.index, error=Failure("refused", message))
        blame = sent.lane.trouble(problem)
        if problem.trouble == "lost" and self._is_fatal(outcome.index):
            blame = "request"
        return Returned(outcome.index, message, blame)

    def _is_fatal(self, index: int) -> bool:
        """Whether the answer to this request was lost so often that it may be what ends the server."""
        self._lost[index] += 1
        return self._lost[index] >= _FATAL


def _listed(text: str) -> list[str]:
    return [one.strip() for one in text.split(",") if one.strip()]


def _eos(spec: EngineSpec, end_id: int) -> tuple[int, ...]:
    if end_id >= 0:
        return (end_id,)
    return stop_ids(Path(spec.path)) if spec.path else ()


def _transport(over: str, silent_seconds: float) -> Callable[[], Transport]:
    if over == "http":
        return lambda: HttpTransport(silent_seconds)
    if importlib.util.find_spec("tritonclient") is None:
        msg = "--set over=grpc needs tritonclient: pip install 'trt-dp[triton]', or leave it out for HTTP"
        raise EngineRefused(msg)
    return lambda: GrpcTransport(silent_seconds)


def _wait(transport: Transport, places: list[tuple[str, str]], patience_seconds: float) -> None:
    """Until each server has said something of its model, or for so long: one may just be starting."""
    until = time.monotonic() + patience_seconds
    for url, name in places:
        while _is_away(transport.describe(url, name)) and time.monotonic() < until:
            time.sleep(_AWAY_SECONDS)


def _is_away(found: Model | Problem) -> bool:
    return isinstance(found, Problem) and found.trouble in ("away", "lost", "busy")


def _lane(transport: Transport, url: str, name: str, concurrency: int) -> Lane:
    found = transport.describe(url, name)
    if isinstance(found, Problem):
        msg = f"the model {name} at {url} cannot be used: {found.message}"
        raise EngineRefused(msg)
    return Lane(url, found, concurrency or found.room)


def _check(lane: Lane, transport: Transport, *, stream: bool) -> None:
    """Raises EngineRefused unless the model answers now, in the way that is asked for."""
    if stream and not lane.model.decoupled:
        msg = f"{lane} cannot stream, because it is not decoupled: leave --set stream out"
        raise EngineRefused(msg)
    problem = ask(transport, lane.url, lane.model.name)
    if problem:
        msg = f"{lane} does not answer: {problem.message}"
        raise EngineRefused(msg)
