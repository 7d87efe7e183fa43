"""Triton over gRPC, by NVIDIA's client; the only file that loads it. Its event loop runs in a thread of its own.

A streamed answer has a gRPC stream of its own: a proxy keeps a stream on one server, so a shared one would not spread.
"""

from __future__ import annotations

import asyncio
import importlib
import queue
import threading
import time
from concurrent.futures import Future
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from trt_dp.engines.triton.described import Model, model_of
from trt_dp.engines.triton.json_calls import brief, is_unhealthy
from trt_dp.engines.triton.transport import Call, Outcome, Problem, Tensor, Trouble

_ASK_SECONDS = 10.0
_TYPES: dict[str, Any] = {
    "INT32": np.int32,
    "UINT64": np.uint64,
    "FP32": np.float32,
    "BOOL": np.bool_,
    "BYTES": np.object_,
}
_TROUBLES: dict[str, Trouble] = {
    "UNAVAILABLE": "lost",  # also a full queue, which its words tell
    "RESOURCE_EXHAUSTED": "busy",
    "DEADLINE_EXCEEDED": "lost",
    "CANCELLED": "lost",
    "NOT_FOUND": "gone",
    "UNAUTHENTICATED": "gone",
    "PERMISSION_DENIED": "gone",
}
_FULL = "maximum queue size"
_NO_CONNECTION = ("failed to connect", "Connection refused", "DNS resolution failed")
_RESET = "RST_STREAM"


class GrpcTransport:
    """Calls in flight by gRPC; a silent server is given up after `silent_seconds`."""

    def __init__(self, silent_seconds: float) -> None:
        self._library = importlib.import_module("tritonclient.grpc.aio")
        self._silent = silent_seconds
        self._ended: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._clients: dict[str, Any] = {}
        self._running: dict[int, Future[None]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="grpc", daemon=True)
        self._thread.start()

    def describe(self, url: str, name: str) -> Model | Problem:
        """What the server says of a model."""
        asked = asyncio.run_coroutine_threadsafe(self._describe(url, name), self._loop)
        return asked.result()

    def send(self, call: Call) -> None:
        """Begin a call."""
        started = asyncio.run_coroutine_threadsafe(self._run(call), self._loop)
        self._running[call.number] = started

    def poll(self, seconds: float) -> list[Outcome]:
        """The calls that ended."""
        try:
            ended = [self._ended.get(timeout=seconds) if seconds else self._ended.get_nowait()]
        except queue.Empty:
            return []
        while not self._ended.empty():
            ended.append(self._ended.get())
        for outcome in ended:
            self._running.pop(outcome.number, None)
        return ended

    def cancel(self, number: int) -> None:
        """Cancel it, on the server too."""
        if running := self._running.pop(number, None):
            running.cancel()

    def close(self) -> None:
        """Cancel what is in flight, and end the thread."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for client in self._clients.values():
            await client.close()

    async def _describe(self, url: str, name: str) -> Model | Problem:
        try:
            asked = self._client(url).get_model_config(name, as_json=True)
            said = await asyncio.wait_for(asked, _ASK_SECONDS)
            return model_of(said["config"])
        except (ValueError, KeyError) as error:
            return Problem("gone", f"{error}")
        except Exception as error:  # noqa: BLE001 - whatever gRPC raises is the server's state
            return _problem(error)

    async def _run(self, call: Call) -> None:
        started = time.monotonic()
        try:
            outcome = await self._answer(call, started)
        except Exception as error:  # noqa: BLE001 - likewise
            outcome = Outcome(number=call.number, problem=_problem(error))
        self._ended.put(outcome)

    async def _answer(self, call: Call, started: float) -> Outcome:
        times: list[float] = []
        responses: list[dict[str, list[Any]]] = []
        async for result in self._results(call):
            arrays = {name: result.as_numpy(name) for name in call.outputs}
            found = {name: _values(one) for name, one in arrays.items() if one is not None}
            if call.outputs[0] in found:  # an empty last response has none
                responses.append(found)
                times.append(time.monotonic() - started)
        return Outcome(
            number=call.number,
            responses=tuple(responses),
            times=tuple(times),
            seconds=time.monotonic() - started,
        )

    async def _results(self, call: Call) -> Any:
        """Each response: a decoupled model is only reached by a stream, whether it streams or not."""
        asked = {
            "model_name": call.model.name,
            "inputs": [self._input(one) for one in call.inputs],
            "request_id": str(call.number),
        }
        client = self._client(call.url)
        if not call.model.decoupled:
            yield await client.infer(**asked, client_timeout=self._silent)
            return
        responses = client.stream_infer(_only(asked))
        while True:
            try:
                result, error = await asyncio.wait_for(anext_of(responses), self._silent)
            except StopAsyncIteration:
                return
            if error is not None:
                raise error
            yield result

    def _client(self, url: str) -> Any:
        if url not in self._clients:
            address, tls = _address(url)
            self._clients[url] = self._library.InferenceServerClient(address, ssl=tls)
        return self._clients[url]

    def _input(self, tensor: Tensor) -> Any:
        values = tensor.values
        if tensor.kind == "BYTES":
            values = [one.encode() for one in values]
        made = self._library.InferInput(tensor.name, tensor.shape, tensor.kind)
        made.set_data_from_numpy(np.array(values, _TYPES[tensor.kind]).reshape(tensor.shape))
        return made


async def _only(one: dict[str, Any]) -> Any:
    """A stream of one request."""
    yield one


async def anext_of(responses: Any) -> Any:
    """The next of an asynchronous iterator, as a coroutine that can be given a limit."""
    return await responses.__anext__()


def _values(array: Any) -> list[Any]:
    return [_plain(one) for one in array.reshape(-1).tolist()]


def _plain(value: Any) -> Any:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _address(url: str) -> tuple[str, bool]:
    """Host and port, and whether to use TLS; no scheme means grpc://."""
    parts = urlsplit(url if "://" in url else f"grpc://{url}")
    return parts.netloc, parts.scheme in ("grpcs", "https")


def _problem(error: Exception) -> Problem:
    """What an exception of gRPC, or of NVIDIA's client, says of server and request."""
    if isinstance(error, asyncio.TimeoutError):
        return Problem("lost", "the server was silent for too long")
    said = brief(_words(error))
    if _FULL in said:
        return Problem("busy", said)
    if any(words in said for words in _NO_CONNECTION):
        return Problem("away", said)
    if is_unhealthy(said):
        return Problem("gone", said)
    if _RESET in said:
        return Problem("lost", said)
    return Problem(_TROUBLES.get(_status(error), "failed"), f"{_status(error)} {said}".strip())


def _words(error: Exception) -> object:
    for name in ("message", "details"):
        if callable(ask := getattr(error, name, None)):
            return ask()
    return error


def _status(error: Exception) -> str:
    """The name of gRPC's status: NVIDIA's client has it as text, gRPC itself as an enum; none in a stream."""
    for name in ("status", "code"):
        if callable(ask := getattr(error, name, None)):
            status = ask()
            return str(getattr(status, "name", status) or "").removeprefix("StatusCode.")
    return ""
