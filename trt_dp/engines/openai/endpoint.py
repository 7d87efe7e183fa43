"""One server: where it is, what it is, and the exchanges that it is asked with."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

import msgspec
from msgspec import Struct

from trt_dp.engines.openai import ask
from trt_dp.engines.openai.ask import PATHS, Api, Manner
from trt_dp.engines.openai.chunks import Answer
from trt_dp.engines.openai.dialect import DIALECTS, recognised
from trt_dp.engines.openai.reading import Trouble, read
from trt_dp.errors import UNREADABLE, EngineRefused, UsageError
from trt_dp.web import Client, Exchange, Limits, Reply, Secret, Target, target

DEFAULT_KEY = "OPENAI_API_KEY"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_AGAIN_SECONDS = 0.25
_NAME = "X-Request-Id"
_NOT_YET = ("connect", "closed", "timeout")


class Wanted(Struct, frozen=True, kw_only=True):
    """What the user said of the servers."""

    model: str
    api: str
    dialect: str
    stream: bool
    key_env: str
    wait_seconds: float
    silent_seconds: float
    probe_seconds: float


class _Model(Struct):
    """An entry of /models."""

    id: str
    owned_by: str = ""
    max_model_len: int | None = None


class _Models(Struct):
    """What /models answers."""

    data: list[_Model] = []


def servers(given: str) -> list[Target]:
    """The servers in a list with commas; raises UsageError for what is no URL."""
    return [_with_version(target(one)) for one in given.split(",") if one]


def _with_version(server: Target) -> Target:
    """Servers have the API under /v1, unless their URL says otherwise."""
    return server if server.path else msgspec.structs.replace(server, path="/v1")


def key_for(server: Target, name: str, environment: Mapping[str, str]) -> Secret | None:
    """The key in this variable; OpenAI's own is sent in the clear to this machine only, unless it is asked for."""
    value = environment.get(name or DEFAULT_KEY, "")
    if name and not value:
        msg = f"the environment variable {name} is empty: put the API key there"
        raise UsageError(msg)
    if not value or not (name or server.tls or server.host in _LOOPBACK):
        return None
    return Secret(value)


class Endpoint:
    """A server that was asked what it is.

    Raises EngineRefused where it never will serve this run, and ConnectionError where it cannot just now: other
    servers may.
    """

    def __init__(self, server: Target, wanted: Wanted, client: Client) -> None:
        self.server = server
        self._key = key_for(server, wanted.key_env, os.environ)
        self._limits = Limits(silent_seconds=wanted.silent_seconds, total_seconds=86_400)
        self._probe_limits = Limits(
            connect_seconds=wanted.probe_seconds, total_seconds=wanted.probe_seconds
        )
        soon = max(30.0, 2 * wanted.probe_seconds)
        self._hasty_limits = Limits(total_seconds=soon)
        found = self._models(wanted, client)
        chosen = self._choose(found, wanted.model)
        self.context = chosen.max_model_len
        named = wanted.dialect != "auto"
        self.manner = Manner(
            model=chosen.id,
            dialect=DIALECTS[wanted.dialect] if named else recognised(chosen.owned_by),
            api=wanted.api,  # type: ignore[arg-type]
            stream=wanted.stream,
        )
        self._knows_ids_only = False
        self.refusals = self._try(client)

    def exchange(self, api: Api, body: bytes, tag: object, name: str = "") -> Exchange:
        """A request to this server; vLLM and trt-dp's own put its name into the answer."""
        return Exchange(
            to=self.server,
            path=PATHS[api],
            body=body,
            stream=self.manner.stream,
            key=self._key,
            headers=((_NAME, name),) if name else (),
            tag=tag,
            limits=self._limits,
        )

    def canary(self, api: Api, tag: object, *, hasty: bool = False) -> Exchange:
        """The smallest request; `hasty`: nothing else is in flight, so it must be answered soon."""
        found = self.exchange(api, ask.canary(api, self.manner, ids=self._knows_ids_only), tag)
        limits = self._hasty_limits if hasty else self._limits
        return msgspec.structs.replace(found, stream=False, limits=limits)

    def look(self, tag: object) -> Exchange:
        """Ask for a sign of life; a busy server gives one too."""
        return Exchange(
            to=self.server, path="/models", method="GET", key=self._key, tag=tag,
            limits=self._probe_limits,
        )  # fmt: skip

    def words(self, trouble: Trouble) -> str:
        """What to say of a trouble, without the key."""
        said = f"{self.server}: {trouble.message}"
        return self._key.scrub(said) if self._key else said

    def _models(self, wanted: Wanted, client: Client) -> list[_Model]:
        """The models that the server lists, once it is there; none if it has no list."""
        until = time.monotonic() + wanted.wait_seconds
        while True:
            reply = _ask(client, self.look(None))
            if not _starts_up(reply):
                return self._listed(reply)
            if time.monotonic() > until:
                trouble = read(reply)
                why = self.words(trouble) if isinstance(trouble, Trouble) else str(self.server)
                msg = f"no answer from {why}. Is the server running?"
                raise ConnectionError(msg)
            time.sleep(_AGAIN_SECONDS)

    def _listed(self, reply: Reply) -> list[_Model]:
        if reply.status in (404, 405):
            return []
        if not reply.ok:
            trouble = read(reply)
            assert isinstance(trouble, Trouble)  # noqa: S101 - it is not ok
            raise EngineRefused(self.words(trouble))
        try:
            return msgspec.json.decode(reply.body, type=_Models).data
        except UNREADABLE as error:
            msg = f"{self.server}/models is no list of models: {error}. Is this a server of OpenAI's API?"
            raise EngineRefused(msg) from error

    def _choose(self, found: list[_Model], name: str) -> _Model:
        if name and not found:
            return _Model(name)
        chosen = [one for one in found if one.id == name or not name]
        if len(chosen) == 1:
            return chosen[0]
        listed = ", ".join(one.id for one in found[:10]) or "it has no list of its models"
        what = f"{self.server} has no model {name!r}" if name else f"{self.server}: name a --model"
        msg = f"{what}: {listed}"
        raise EngineRefused(msg)

    def _try(self, client: Client) -> dict[Api, str]:
        """Why an API cannot be used here; raises where none can, since a server must answer something."""
        apis: tuple[Api, ...] = (
            ("completions", "chat") if self.manner.api == "auto" else (self.manner.api,)
        )
        refusals: dict[Api, Trouble] = {}
        for api in apis:
            trouble = self._sing(api, client)
            if isinstance(trouble, Trouble) and trouble.kind != "busy":
                refusals[api] = trouble
        if len(refusals) < len(apis):
            return {api: self.words(trouble) for api, trouble in refusals.items()}
        first = refusals[apis[0]]
        msg = f"the server fails the smallest request: {self.words(first)}"
        final = first.status in range(400, 500) and not first.garbled
        raise EngineRefused(msg) if final else ConnectionError(msg)

    def _sing(self, api: Api, client: Client) -> Answer | Trouble:
        """A canary of text, or else of ids: a server may have no tokenizer."""
        said = read(_ask(client, self.canary(api, None)))
        if api == "completions" and isinstance(said, Trouble) and said.kind == "refused":
            self._knows_ids_only = self.manner.dialect.ids
            with_ids = read(_ask(client, self.canary(api, None)))
            self._knows_ids_only = isinstance(with_ids, Answer)
            refused = isinstance(with_ids, Trouble) and with_ids.kind == "refused"
            return said if refused else with_ids
        return said


def _starts_up(reply: Reply) -> bool:
    if reply.fault:
        return reply.fault.kind in _NOT_YET
    return reply.status in (502, 503, 504)


def _ask(client: Client, exchange: Exchange) -> Reply:
    """One exchange while there is no other; its limits end it."""
    client.submit(exchange)
    while not (replies := client.poll(1.0)):
        pass
    client.close_idle()  # the next answer cannot be a late one to this question
    return replies[0]
