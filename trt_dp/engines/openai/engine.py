"""The engine openai: requests to one server, its troubles, and the times of its answers."""

from __future__ import annotations

import itertools
import time
import uuid
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from importlib.util import find_spec
from typing import Literal

from trt_dp.engines.openai.ask import Api, api_of, body_of
from trt_dp.engines.openai.chunks import Answer
from trt_dp.engines.openai.dialect import DialectName
from trt_dp.engines.openai.endpoint import Endpoint, Wanted, servers
from trt_dp.engines.openai.learning import Concurrency
from trt_dp.engines.openai.reading import Trouble, read
from trt_dp.engines.openai.results import Sent, result_of
from trt_dp.engines.openai.standing import Standing
from trt_dp.errors import EngineRefused, RequestRefused, UsageError
from trt_dp.system.extras import pip_install
from trt_dp.types import EngineSpec, Facts, Failure, Placement, Request, Result, Returned
from trt_dp.web import Client, Exchange, Reply, Target

_SOON, _LATER = 0.01, 0.1
_MOST_RESERVE = 32
_FORGIVEN = 3
_LOOKS = 2
_CANARY, _LOOK = "canary", "look"


class OpenaiEngine:
    """One server that speaks OpenAI's API.

    An error that the request or the server may have caused is decided by a canary, the smallest request: if the
    server answers it, the request is at fault; otherwise the server is away, and all that it has goes back.
    """

    has_model = False
    packages = ("httptools",)
    takes = frozenset({"ids", "text", "chat"})
    passing = frozenset(
        {
            "endpoint",
            "concurrency",
            "stream",
            "key_env",
            "wait_seconds",
            "silent_seconds",
            "probe_seconds",
        }
    )
    samples = frozenset(
        {
            "temperature", "top_k", "top_p", "min_p", "seed", "min_tokens", "repetition_penalty",
            "presence_penalty", "frequency_penalty", "logprobs", "structured_outputs",
        }
    )  # fmt: skip

    def __init__(
        self,
        spec: EngineSpec,
        placement: Placement,
        *,
        endpoint: str = "",
        model: str = "",
        concurrency: int = 0,
        api: Literal["auto", "completions", "chat"] = "auto",
        dialect: DialectName = "auto",
        stream: bool = False,
        key_env: str = "",
        wait_seconds: float = 15.0,
        silent_seconds: float = 600.0,
        probe_seconds: float = 15.0,
    ) -> None:
        if spec.path is not None:
            msg = "the engine openai takes no --engine-path: --endpoint names its servers"
            raise EngineRefused(msg)
        wanted = Wanted(
            model=model,
            api=api,
            dialect=dialect,
            stream=stream,
            key_env=key_env,
            wait_seconds=wait_seconds,
            silent_seconds=silent_seconds,
            probe_seconds=probe_seconds,
        )
        self._client = Client()
        named = servers(endpoint)
        self._endpoint = _open(named[placement.worker % len(named)], wanted, self._client)
        self._concurrency = Concurrency(concurrency)
        self._standing = Standing()
        self._probe_seconds = probe_seconds
        self._waiting: deque[Sent] = deque()
        self._flying: dict[int, Sent] = {}
        self._doubtful: list[Sent] = []
        self._losses: dict[int, int] = {}
        self._probing: dict[str, int] = {}
        self._unseen = 0
        self._canary_api: Api = (
            "chat" if "completions" in self._endpoint.refusals else "completions"
        )
        self._lost = self._retried = 0
        self._names, self._tries = f"trt-dp-{uuid.uuid4().hex[:12]}-", itertools.count()

    @staticmethod
    def why_not() -> str | None:
        """Whether the HTTP client's library is missing."""
        return None if find_spec("httptools") else f"install httptools: {pip_install('openai')}"

    @staticmethod
    def targets(options: Mapping[str, str]) -> int:
        """How many servers are named."""
        if int(options.get("concurrency", "0") or 0) < 0:
            msg = "--set concurrency must not be negative"
            raise UsageError(msg)
        return len(servers(options.get("endpoint", "")))

    @property
    def context(self) -> int | None:
        """The most tokens of prompt and answer, where the server says it."""
        return self._endpoint.context

    @property
    def capacity(self) -> int:
        """As many as go well, and a few that wait; 0 while the server is away or asked for a pause.

        While it takes nothing, nobody calls `step`, so this is where it is looked for.
        """
        now = time.monotonic()
        if self._standing.away:
            self._look_for_it(now)
        if not self._standing.is_open(now):
            return 0
        limit = self._concurrency.limit
        return limit + min(_MOST_RESERVE, max(1, limit // 2))

    @property
    def paused_because(self) -> str:
        """What the server did last that made it unusable for now."""
        return self._standing.why

    def submit(self, request: Request) -> None:
        """Take a request; raises RequestRefused for one that the server does not accept."""
        manner = self._endpoint.manner
        api = api_of(request, manner)
        if why := self._endpoint.refusals.get(api):
            msg = f"the server takes no requests of this kind: {why}"
            raise RequestRefused(msg)
        name = f"{self._names}{next(self._tries)}"
        body = body_of(request, api, manner)
        exchange = self._endpoint.exchange(api, body, request.index, name)
        sent = Sent(request=request, exchange=exchange, api=api, began=time.monotonic(), name=name)
        self._waiting.append(sent)
        self._send()

    def step(self) -> Sequence[Result | Returned]:
        """Wait a moment for replies, and judge them."""
        full = len(self._flying) >= self._concurrency.limit
        found = self._take(self._client.poll(_LATER if full else _SOON))
        now = time.monotonic()
        self._watch(now)
        if not self._standing.is_open(now):
            found += self._give_back(self._waiting, self._standing.why)
            self._waiting.clear()
        self._send()
        return found

    def cancel(self, index: int) -> None:
        """Forget a request that was submitted and has no result yet."""
        self._waiting = deque(one for one in self._waiting if one.request.index != index)
        self._doubtful = [one for one in self._doubtful if one.request.index != index]
        if sent := self._flying.pop(index, None):
            self._client.cancel(sent.number)

    def facts(self) -> Facts:
        """What the report says of this server."""
        return {
            "endpoint": str(self._endpoint.server),
            "model": self._endpoint.manner.model,
            "dialect": self._endpoint.manner.dialect.name,
            "in_flight_at_most": self._concurrency.limit,
            "pauses": self._standing.pauses,
            "lost_answers": self._lost,
            "given_back": self._retried,
        }

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _send(self) -> None:
        while self._waiting and len(self._flying) < self._concurrency.limit:
            sent = self._waiting.popleft()
            sent.number = self._client.submit(sent.exchange)
            self._flying[sent.request.index] = sent

    def _take(self, replies: list[Reply]) -> list[Result | Returned]:
        found: list[Result | Returned] = []
        for reply in replies:
            if reply.exchange.tag == _LOOK:
                found += self._looked(reply)
            elif reply.exchange.tag == _CANARY:
                found += self._sang(reply)
            elif sent := self._flying.pop(reply.exchange.tag, None):
                found += self._judge(sent, reply)
        return found

    def _judge(self, sent: Sent, reply: Reply) -> list[Result | Returned]:
        now, said = time.monotonic(), self._own(sent, read(reply))
        index = sent.request.index
        if isinstance(said, Answer):
            self._standing.answered()
            full = bool(self._waiting) or len(self._flying) + 1 >= self._concurrency.limit
            self._concurrency.answered(said.usage.completion_tokens or 0, now, full=full)
            return [result_of(sent, said, reply, self._endpoint.manner.dialect)]
        words = self._endpoint.words(said)
        if said.kind == "refused":
            return [Result(index, error=Failure("refused", words))]
        if said.kind == "doubtful":
            sent.trouble = said
            self._doubtful.append(sent)
            return []
        if said.kind == "busy":
            if self._standing.hold(now, said.wait_seconds, words):
                self._concurrency.too_busy()
        elif said.kind == "gone":
            self._standing.leave(now, words)
        else:
            return [self._lose(sent, words)]
        return self._give_back([sent], words)

    def _own(self, sent: Sent, said: Answer | Trouble) -> Answer | Trouble:
        """What was said, unless it is an answer to another request, which a proxy sent late or twice."""
        if isinstance(said, Trouble) or self._names not in said.name:
            return said
        told = said.name.partition(self._names)[2].partition("-")[0]
        if self._names + told == sent.name:
            return said
        self._client.distrust(self._endpoint.server)
        return Trouble("doubtful", "the answer is one to another request", garbled=True)

    def _lose(self, sent: Sent, words: str) -> Returned:
        """The answer was cut off or garbled: a request to which that happens again and again may be the cause."""
        index = sent.request.index
        self._lost += 1
        self._losses[index] = self._losses.get(index, 0) + 1
        return Returned(index, words, "batch" if self._losses[index] > _FORGIVEN else "none")

    def _give_back(self, sent: Collection[Sent], words: str) -> list[Result | Returned]:
        self._retried += len(sent)
        return [Returned(one.request.index, words) for one in sent]

    def _watch(self, now: float) -> None:
        """Send a canary where something is in doubt, and look whether a silent server lives."""
        if self._doubtful:
            self._probe(self._endpoint.canary(self._doubtful[0].api, _CANARY))
        if self._flying and now - self._client.heard > self._probe_seconds:
            self._probe(self._endpoint.look(_LOOK))

    def _probe(self, exchange: Exchange) -> None:
        if exchange.tag not in self._probing:
            self._probing[exchange.tag] = self._client.submit(exchange)

    def _sang(self, reply: Reply) -> list[Result | Returned]:
        """The canary's fate decides on whatever is doubtful."""
        self._probing.pop(_CANARY, None)
        doubtful, self._doubtful = self._doubtful, []
        said, now = read(reply), time.monotonic()
        if isinstance(said, Trouble):
            words = self._endpoint.words(said)
            self._standing.leave(now, words)
            return self._give_back(doubtful, words)
        self._standing.came_back()
        return [self._convict(sent) for sent in doubtful]

    def _convict(self, sent: Sent) -> Result | Returned:
        """The server works: its verdicts are final, its errors get another try, and what is garbled is neither."""
        trouble = sent.trouble
        assert trouble is not None  # noqa: S101 - only those with one are doubtful
        words = self._endpoint.words(trouble)
        if trouble.final:
            return Result(sent.request.index, error=Failure("refused", words))
        if trouble.garbled:
            return self._lose(sent, words)
        return Returned(sent.request.index, words, "request")

    def _looked(self, reply: Reply) -> list[Result | Returned]:
        """A server that twice gives no sign of life hangs: what it has goes back."""
        self._probing.pop(_LOOK, None)
        if not reply.fault:
            self._unseen = 0
            return []
        self._unseen += 1
        if self._unseen < _LOOKS:
            return []
        words = f"{self._endpoint.server} gives no sign of life: {reply.fault.message}"
        self._standing.leave(time.monotonic(), words)
        flying, self._flying = list(self._flying.values()), {}
        doubtful, self._doubtful = self._doubtful, []
        for number in (*(sent.number for sent in flying), self._probing.pop(_CANARY, 0)):
            self._client.cancel(number)
        return [*(self._lose(sent, words) for sent in flying), *self._give_back(doubtful, words)]

    def _look_for_it(self, now: float) -> None:
        """While nothing is in flight, nobody calls `step`."""
        if not self._flying and not self._doubtful:
            for reply in self._client.poll(0):
                self._sang(reply) if reply.exchange.tag == _CANARY else self._looked(reply)
        if self._standing.may_probe(now):
            self._probe(self._endpoint.canary(self._canary_api, _CANARY, hasty=True))


def _open(server: Target, wanted: Wanted, client: Client) -> Endpoint:
    """The server, asked what it is; where it cannot be used, no connection is left."""
    try:
        return Endpoint(server, wanted, client)
    except Exception:
        client.close()
        raise
