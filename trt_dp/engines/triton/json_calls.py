"""Calls and answers as Triton's HTTP API has them: `infer` with shapes, `generate` and `generate_stream` without.

`infer` has the true status of an error, but no decoupled model. `generate` takes any model: lists are laid out by the
shapes of the config, and what has one element comes back as a plain number.
"""

from __future__ import annotations

from typing import Any

import msgspec

from trt_dp.engines.triton.transport import Call, Problem
from trt_dp.errors import UNREADABLE

_KEPT = 400
_UNHEALTHY = ("is not healthy", "Stub process", "failed to launch", "is being restarted")

Responses = tuple[dict[str, list[Any]], ...]


def path(call: Call) -> str:
    """Where a call goes."""
    return f"/v2/models/{call.model.name}/{_verb(call)}"


def _verb(call: Call) -> str:
    if call.stream:
        return "generate_stream"
    return "generate" if call.model.decoupled or not call.model.takes_ids else "infer"


def body(call: Call) -> bytes:
    """What is sent there."""
    if _verb(call) != "infer":
        values = {
            one.name: one.values[0] if len(one.values) == 1 else one.values for one in call.inputs
        }
        return msgspec.json.encode({"id": str(call.number), **values})
    inputs = [
        {"name": one.name, "datatype": one.kind, "shape": one.shape, "data": one.values}
        for one in call.inputs
    ]
    outputs = [{"name": name} for name in call.outputs]
    return msgspec.json.encode({"id": str(call.number), "inputs": inputs, "outputs": outputs})


def responses(call: Call, content: bytes, events: list[bytes]) -> Responses | Problem:
    """The outputs of each response, or what the server says instead."""
    try:
        answers = [msgspec.json.decode(one) for one in (events if call.stream else [content])]
        said = next((one["error"] for one in answers if "error" in one), None)
        if said is not None:
            return Problem("gone" if is_unhealthy(said) else "failed", brief(said))
        read = _inferred if _verb(call) == "infer" else _generated
        return tuple(read(one, call.outputs) for one in answers)
    except (*UNREADABLE, KeyError, TypeError, AttributeError) as error:
        return Problem("lost", f"the server's answer cannot be read: {error!r:.{_KEPT}}")


def _inferred(answer: dict[str, Any], names: tuple[str, ...]) -> dict[str, list[Any]]:
    return {one["name"]: one["data"] for one in answer["outputs"] if one["name"] in names}


def _generated(answer: dict[str, Any], names: tuple[str, ...]) -> dict[str, list[Any]]:
    found = {name: answer[name] for name in names if name in answer}
    return {name: one if isinstance(one, list) else [one] for name, one in found.items()}


def refusal(status: int, content: bytes) -> Problem:
    """What an HTTP status says of server and request.

    `generate` answers with 400 to whatever goes wrong in a model, even when the model's process is dead: so 400
    proves nothing against the request.
    """
    said = _said(content)
    message = f"HTTP {status}: {said}"
    if status in (429, 503):
        return Problem("busy", message)
    if status in (401, 403, 404) or is_unhealthy(said):
        return Problem("gone", message)
    if status in (408, 502, 504):
        return Problem("lost", message)
    return Problem("refused" if status == 413 else "failed", message)


def is_unhealthy(said: str) -> bool:
    """Whether these words say that the process of a Python model is dead: its server stays ready for ever."""
    return any(words in said for words in _UNHEALTHY)


def _said(content: bytes) -> str:
    text = content.removeprefix(b"data: ")
    try:
        return brief(msgspec.json.decode(text, type=dict[str, Any]).get("error", ""))
    except UNREADABLE:
        return brief(content.decode(errors="replace"))


def brief(said: Any) -> str:
    """A server's words without their tail, on one line."""
    return " ".join(str(said).split())[:_KEPT] or "no reason given"
