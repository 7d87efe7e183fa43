"""What the own server answers to each path."""

from __future__ import annotations

import asyncio
import secrets
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

from msgspec import Struct, structs

from trt_dp import plugins
from trt_dp.engines.about import about
from trt_dp.errors import CallRefused, RequestRefused, UsageError
from trt_dp.serving.own import bodies, calls
from trt_dp.serving.own.answer import Answer
from trt_dp.serving.own.bodies import Usage, Wording
from trt_dp.serving.own.calls import Call
from trt_dp.serving.own.counters import KIND, Counters
from trt_dp.serving.own.desk import Desk, Flight
from trt_dp.serving.own.http import Connection, Heard
from trt_dp.serving.own.settings import Settings
from trt_dp.tokenizer import Tokenizer
from trt_dp.types import Defaults, Request, Sampling
from trt_dp.worker.asked import Row
from trt_dp.worker.prompts import Prompts
from trt_dp.worker.resolve import Rules, asked_of

_COMPLETION_TOKENS = 16  # what the API gives where a completion says nothing
_LONGEST_NAME = 128
_JSON = "application/json"
_PASSING = (429, 503)  # the same call may be answered later


class Loaded(Struct, frozen=True):
    """What was loaded, as far as answers depend on it."""

    tokenizer: Tokenizer | None
    context: int | None


class App:
    """Routes, and the way of a call: read, resolved, in flight, worded."""

    def __init__(self, settings: Settings, loaded: Loaded, desk: Desk) -> None:
        self._settings, self._loaded, self._desk = settings, loaded, desk
        self._model, self._begun = settings.model, int(time.time())
        self._counters = Counters()
        engine_class = plugins.find(plugins.ENGINES, settings.engine.name)
        draws = "temperature" in about(engine_class).samples
        sampling = Sampling(temperature=1.0, seed=secrets.randbits(63)) if draws else Sampling()
        defaults = Defaults(sampling=sampling)
        self._prompts = Prompts(settings.engine.path, loaded.tokenizer, defaults)
        self._rules = Rules(
            engine=settings.engine,
            defaults=defaults,
            detokenize=True,
            context=loaded.context,
            hidden=loaded.tokenizer.hidden if loaded.tokenizer else {},
        )
        self._routes: dict[tuple[str, str], Callable[[Heard, Connection], Awaitable[None]]] = {
            ("GET", "/health"): self._health,
            ("GET", "/v1/models"): self._models,
            ("GET", f"/v1/models/{quote(settings.model)}"): self._one_model,
            ("GET", f"/v1/models/{quote(settings.model, safe='')}"): self._one_model,
            ("GET", "/metrics"): self._metrics,
            ("POST", "/v1/completions"): self._completions,
            ("POST", "/v1/chat/completions"): self._chats,
        }

    async def handle(self, heard: Heard, client: Connection) -> None:
        """Answer a request."""
        method = "GET" if heard.method == "HEAD" else heard.method
        try:
            route = self._routes.get((method, heard.path))
            if route is None:
                raise self._no_route(heard)
            await route(heard, client)
        except CallRefused as fault:
            self._counters.requests[fault.status] += 1
            again = (("Retry-After", "1"),) if fault.status in _PASSING else ()
            await client.send(fault.status, bodies.error(fault), headers=again)

    def _no_route(self, heard: Heard) -> CallRefused:
        allowed = [method for method, path in self._routes if path == heard.path]
        if allowed:
            return CallRefused(405, f"{heard.path} takes {allowed[0]}, not {heard.method}")
        return CallRefused(404, f"there is no {heard.path} here")

    async def _health(self, _: Heard, client: Connection) -> None:
        await client.send(200, b"", "text/plain")

    async def _models(self, _: Heard, client: Connection) -> None:
        listed = {"object": "list", "data": [self._model_card()]}
        await client.send(200, bodies.encode(listed))

    async def _one_model(self, _: Heard, client: Connection) -> None:
        await client.send(200, bodies.encode(self._model_card()))

    def _model_card(self) -> dict[str, Any]:
        return {
            "id": self._model,
            "object": "model",
            "created": self._begun,
            "owned_by": "trt-dp",
            "max_model_len": self._loaded.context,
        }

    async def _metrics(self, _: Heard, client: Connection) -> None:
        await client.send(200, self._counters.text({"in_flight": self._desk.in_flight}), KIND)

    async def _completions(self, heard: Heard, client: Connection) -> None:
        await self._answer(heard, client, chat=False)

    async def _chats(self, heard: Heard, client: Connection) -> None:
        await self._answer(heard, client, chat=True)

    async def _answer(self, heard: Heard, client: Connection, *, chat: bool) -> None:
        kind = heard.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != _JSON:  # a web page of another origin cannot send it without being asked first
            raise CallRefused(415, f"the body must be JSON: send Content-Type: {_JSON}")
        call = calls.read(heard.body, self._model, chat=chat)
        requests = self._requests(call)
        flight = self._desk.open(requests, streamed=call.stream)
        tokenizer = self._loaded.tokenizer
        ids = call.token_ids or tokenizer is None  # else the answer would say nothing
        name = heard.headers.get("x-request-id", "")[:_LONGEST_NAME] or uuid.uuid4().hex
        wording = Wording(self._model, tokenizer, name, chat=chat, ids=ids)
        answer = Answer(call, requests, wording, tokenizer)
        try:
            await (self._stream if call.stream else self._whole)(answer, flight, client)
        except (ConnectionError, asyncio.CancelledError):
            self._counters.aborted += 1
            raise
        finally:
            self._desk.close(flight)
        self._count(answer.usage, flight)

    def _requests(self, call: Call) -> list[Request]:
        """The engine's requests, prompt by prompt; raises CallRefused for what the engine or its folder cannot do."""
        self._desk.check(sum(fields.n or 1 for fields in call.prompts))
        if self._loaded.tokenizer is None:
            _check_ids_only(call)
        try:
            found = self._prompts.of(call.prompts)
            requests: list[Request] = []
            for fields, prompt in zip(call.prompts, found, strict=True):
                if isinstance(prompt, RequestRefused):
                    raise prompt
                row = Row(self._desk.number(), fields, 0.0)
                requests += asked_of(row, prompt, self._rules_of(call)).requests
        except (RequestRefused, UsageError) as error:
            raise CallRefused(400, str(error)) from error
        return requests

    def _rules_of(self, call: Call) -> Rules:
        if call.chat:
            return self._rules
        defaults = structs.replace(self._rules.defaults, max_tokens=_COMPLETION_TOKENS)
        return structs.replace(self._rules, defaults=defaults)

    async def _whole(self, answer: Answer, flight: Flight, client: Connection) -> None:
        while flight.open or not flight.events.empty():
            answer.take(await flight.events.get())
        await client.send(200, answer.body())

    async def _stream(self, answer: Answer, flight: Flight, client: Connection) -> None:
        """Events as the tokens come; nothing is sent before the first, so that a refusal keeps its status."""
        while flight.open or not flight.events.empty():
            event = await flight.events.get()
            try:
                told = answer.tell(event)
            except CallRefused as fault:
                if not client.begun:
                    raise
                await client.event(bodies.error(fault))
                client.end()
                return
            if told and not client.begun:
                self._counters.first_token.add(time.monotonic() - flight.begun)
                await client.begin()
                for first in answer.roles():
                    await client.event(first)
            for data in told:
                await client.event(data)
        for data in answer.last():
            await client.event(data)
        client.end()

    def _count(self, usage: Usage, flight: Flight) -> None:
        counters = self._counters
        counters.requests[200] += 1
        counters.prompt_tokens += usage.prompt_tokens
        counters.output_tokens += usage.completion_tokens
        counters.whole.add(time.monotonic() - flight.begun)


def _check_ids_only(call: Call) -> None:
    if any(fields.input_ids is None for fields in call.prompts):
        msg = "this server has no tokenizer: give `prompt` as a list of token ids"
        raise CallRefused(400, msg, "messages" if call.chat else "prompt")
    if any(fields.sampling.stop for fields in call.prompts):
        raise CallRefused(400, "this server has no tokenizer: use `stop_token_ids`", "stop")
