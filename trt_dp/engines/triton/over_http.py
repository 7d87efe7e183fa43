"""Triton over HTTP, by trt-dp's own client."""

from __future__ import annotations

from typing import Any

import msgspec

from trt_dp.engines.triton import json_calls
from trt_dp.engines.triton.described import Model, model_of
from trt_dp.engines.triton.transport import Call, Outcome, Problem, Trouble
from trt_dp.errors import UNREADABLE
from trt_dp.web import Client, Exchange, Limits, Reply, Target, target

_ASK = Limits(connect_seconds=5.0, silent_seconds=10.0, total_seconds=10.0)
_FAULTS: dict[str, Trouble] = {"connect": "away", "tls": "gone", "redirect": "gone"}


class HttpTransport:
    """Calls in flight by HTTP; a silent server is given up after `silent_seconds`."""

    def __init__(self, silent_seconds: float) -> None:
        self._client = Client()
        self._targets: dict[str, Target] = {}
        self._numbers: dict[int, int] = {}  # the client's, by those of calls
        self._limits = Limits(silent_seconds=silent_seconds)

    def describe(self, url: str, name: str) -> Model | Problem:
        """What the server says of a model."""
        exchange = Exchange(
            to=self._target(url), path=f"/v2/models/{name}/config", method="GET", limits=_ASK
        )
        self._client.submit(exchange)
        reply = self._one()
        if reply.fault or not reply.ok:
            return _problem(reply)
        try:
            config = msgspec.json.decode(reply.body, type=dict[str, Any])
            return model_of(config)
        except (*UNREADABLE, KeyError, TypeError) as error:
            return Problem("gone", f"{error}")

    def send(self, call: Call) -> None:
        """Begin a call."""
        self._numbers[call.number] = self._client.submit(
            Exchange(
                to=self._target(call.url),
                path=json_calls.path(call),
                body=json_calls.body(call),
                stream=call.stream,
                tag=call,
                limits=self._limits,
            )
        )

    def poll(self, seconds: float) -> list[Outcome]:
        """The calls that ended."""
        outcomes = [_outcome(reply) for reply in self._client.poll(seconds)]
        for outcome in outcomes:
            self._numbers.pop(outcome.number, None)
        return outcomes

    def cancel(self, number: int) -> None:
        """Close its connection."""
        if (known := self._numbers.pop(number, None)) is not None:
            self._client.cancel(known)

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def _one(self) -> Reply:
        """The only reply that is awaited; the client's own limits end the wait."""
        while True:
            for reply in self._client.poll(1.0):
                return reply

    def _target(self, url: str) -> Target:
        if url not in self._targets:
            self._targets[url] = target(url)
        return self._targets[url]


def _outcome(reply: Reply) -> Outcome:
    call: Call = reply.exchange.tag
    if reply.fault or not reply.ok:
        return Outcome(number=call.number, problem=_problem(reply))
    found = json_calls.responses(call, reply.body, reply.events)
    if isinstance(found, Problem):
        return Outcome(number=call.number, problem=found)
    return Outcome(
        number=call.number,
        responses=found,
        times=tuple(at - reply.submitted for at in reply.times),
        seconds=reply.done - reply.submitted,
    )


def _problem(reply: Reply) -> Problem:
    if reply.fault:
        return Problem(_FAULTS.get(reply.fault.kind, "lost"), reply.fault.message)
    content = reply.events[0] if reply.events else reply.body
    problem = json_calls.refusal(reply.status, content)
    pause = _pause(reply.headers.get("retry-after", ""))
    return Problem(problem.trouble, problem.message, pause)


def _pause(said: str) -> float:
    """The seconds of a Retry-After; dates are not used by any server of this kind."""
    return min(float(said), 600.0) if said.isdecimal() else 0.0
