"""What carries requests to Triton and answers back: HTTP or gRPC, behind one interface."""

from __future__ import annotations

from typing import Any, Literal, Protocol

from msgspec import Struct

from trt_dp.engines.triton.described import Model

Kind = Literal["INT32", "UINT64", "FP32", "BOOL", "BYTES"]
Trouble = Literal["busy", "away", "silent", "lost", "gone", "failed", "refused"]
"""Of a server: it has no room now; there is no connection; it does not even say what it
has; the answer was lost; it cannot answer anything now; it
failed on this request, or all of them; it will never take this request."""


class Tensor(Struct, frozen=True):
    """An input: its values in a row, and its shape with the batch of one in front."""

    name: str
    kind: Kind
    shape: tuple[int, ...]
    values: list[Any]


class Call(Struct, frozen=True, kw_only=True):
    """A request on its way to one model of one server; no two calls have the same number."""

    number: int
    url: str
    model: Model
    inputs: tuple[Tensor, ...]
    outputs: tuple[str, ...]
    stream: bool = False


class Problem(Struct, frozen=True):
    """Why there is no answer; `pause_seconds` is what the server asks for."""

    trouble: Trouble
    message: str
    pause_seconds: float = 0.0


class Outcome(Struct, frozen=True, kw_only=True):
    """How a call ended: with the values of each response's outputs, or with a problem."""

    number: int
    responses: tuple[dict[str, list[Any]], ...] = ()
    times: tuple[float, ...] = ()  # of each response, after the call
    seconds: float = 0.0
    problem: Problem | None = None


class Transport(Protocol):
    """Belongs to one thread; many calls are in flight at once, and `poll` waits for the first to end."""

    def describe(self, url: str, name: str) -> Model | Problem:
        """What the server says of a model. Waits for the answer, with a limit."""

    def send(self, call: Call) -> None:
        """Begin a call; its outcome has the same number."""

    def poll(self, seconds: float) -> list[Outcome]:
        """The calls that ended, as soon as there is one."""

    def cancel(self, number: int) -> None:
        """Forget a call: it has no outcome any more, unless that is there already."""

    def close(self) -> None:
        """Forget what is in flight."""
