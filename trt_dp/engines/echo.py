"""The engine that answers at once, from the request alone: the instrument for measuring and testing trt-dp."""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from collections.abc import Mapping
from collections.abc import Set as AbstractSet

import numpy as np
from msgspec import Struct

from trt_dp.errors import EngineRefused, RequestRefused
from trt_dp.types import EngineSpec, Failure, Ids, Placement, Progress, Request, Result

_MOST_OUTPUT = 1 << 22  # a line of a dataset must not cost the memory of the machine


class EchoEngine:
    """Answers with the prompt's own ids, from a place that depends on all of them; misbehaves when told to.

    It is an instrument: it has no model and needs no folder, and it runs anywhere. At a temperature above 0
    the place depends on the seed too; every id is certain, with a logprob of 0.
    `crash`, `hang`, `fail`, `refuse_requests` and `raise_on` name requests by their place in the file
    (`3,17`); `only_worker` keeps every misbehaviour to one worker. With `tokens_per_step` an answer grows by so
    many ids in each step, and `step_seconds` is the time between two of them.
    """

    has_model = False
    samples = frozenset(
        {"temperature", "top_k", "top_p", "min_p", "seed", "min_tokens", "logprobs"}
    )

    def __init__(
        self,
        spec: EngineSpec,
        placement: Placement,
        *,
        capacity: int = 256,
        batch: int = 64,
        load_seconds: float = 0.0,
        step_seconds: float = 0.0,
        tokens_per_step: int = 0,
        refuse: str = "",
        crash: str = "",
        hang: str = "",
        fail: str = "",
        refuse_requests: str = "",
        raise_on: str = "",
        exit_after: int = 0,
        only_worker: int = -1,
    ) -> None:
        del spec  # it has no model
        chosen = only_worker in (-1, placement.worker)
        time.sleep(load_seconds)
        if refuse and chosen:
            raise EngineRefused(refuse)
        self.capacity = capacity
        self._batch = batch
        self._step_seconds = step_seconds if chosen else 0.0
        self._exit_after = exit_after if chosen else 0
        self._answered = 0
        self._waiting: deque[Request] = deque()
        self._tokens_per_step = tokens_per_step
        self._growing: dict[int, _Growing] = {}
        self._crash, self._hang, self._fail, self._refuse, self._raise = (
            _places(given) if chosen else frozenset[int]()
            for given in (crash, hang, fail, refuse_requests, raise_on)
        )

    @staticmethod
    def deterministic(_options: Mapping[str, str]) -> bool:
        """An answer depends on its request alone."""
        return True

    def submit(self, request: Request) -> None:
        """Take a request, unless told to refuse it."""
        if request.index in self._refuse:
            msg = "echo refuses this request, as --set refuse asks"
            raise RequestRefused(msg)
        if request.output_tokens > _MOST_OUTPUT:
            msg = f"{request.output_tokens} output tokens, and the engine echo gives {_MOST_OUTPUT} at most"
            raise RequestRefused(msg)
        self._waiting.append(request)

    def step(self) -> list[Result]:
        """Answer the next few."""
        if self._step_seconds:
            time.sleep(self._step_seconds)
        count = min(self._batch - len(self._growing), len(self._waiting))
        results = [self._answer(self._waiting.popleft()) for _ in range(count)]
        if self._tokens_per_step:
            results = self._grow(results)
        self._answered += len(results)
        if self._exit_after and self._answered >= self._exit_after:
            os._exit(0)
        return results

    def progress(self, indexes: AbstractSet[int]) -> list[Progress]:
        """What these answers grew by."""
        told = [one.tell() for index, one in self._growing.items() if index in indexes]
        return [one for one in told if one.output_ids]

    def cancel(self, index: int) -> None:
        """Forget a request."""
        self._growing.pop(index, None)
        self._waiting = deque(one for one in self._waiting if one.index != index)

    def close(self) -> None:
        """There is nothing to free."""

    def _grow(self, begun: list[Result]) -> list[Result]:
        """Advance all answers by a step; returns those that are complete."""
        self._growing.update((result.index, _Growing(result)) for result in begun)
        for one in self._growing.values():
            one.length += self._tokens_per_step
        ended = [one.whole for one in self._growing.values() if one.complete]
        for result in ended:
            del self._growing[result.index]
        return ended

    def _answer(self, request: Request) -> Result:
        self._misbehave(request.index)
        if request.index in self._fail:
            error = Failure("engine_error", "echo was told to fail this request")
            return Result(request.index, error=error)
        ids, sampling = request.input_ids, request.sampling
        drawn = sampling.seed if sampling.temperature else 0
        first = (int(ids.sum()) + drawn) % len(ids)
        answer = _round(ids, first, request.output_tokens)
        logprobs = None if sampling.logprobs is None else [0.0] * len(answer)
        return Result(request.index, answer, logprobs=logprobs)

    def _misbehave(self, index: int) -> None:
        if index in self._crash:
            os.kill(os.getpid(), signal.SIGKILL)
        if index in self._raise:
            msg = f"echo was told to raise at request {index}"
            raise RuntimeError(msg)
        while index in self._hang:
            time.sleep(3600)


class _Growing(Struct):
    """An answer that is known, given out step by step: so many ids of it have come, and so many were told."""

    whole: Result
    length: int = 0
    told: int = 0

    @property
    def complete(self) -> bool:
        return self.whole.error is not None or self.length >= len(self.whole.output_ids)

    def tell(self) -> Progress:
        """The ids since the last time."""
        part = slice(self.told, self.length)
        self.told = self.length
        logprobs = self.whole.logprobs
        return Progress(
            index=self.whole.index,
            output_ids=self.whole.output_ids[part],
            logprobs=None if logprobs is None else logprobs[part],
        )


def _round(ids: Ids, first: int, count: int) -> list[int]:
    """So many ids from this place on, and from the beginning again after the last."""
    if first + count <= len(ids):
        part = ids[first : first + count]
    else:  # numpy's own wrapping goes round step by step
        part = ids.take(np.arange(first, first + count) % len(ids))
    found: list[int] = part.tolist()
    return found


def _places(given: str) -> frozenset[int]:
    return frozenset(int(place) for place in given.split(",") if place)
