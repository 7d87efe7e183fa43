"""Driving TensorRT-LLM's Executor: requests go in as they come, each answer comes out when it is ready."""

from __future__ import annotations

import datetime as dt
import time
from typing import Any

from msgspec import Struct, structs

from trt_dp.engines.trtllm.library import first_line
from trt_dp.engines.trtllm.sampling import made, settings
from trt_dp.engines.trtllm.stats import Iterations
from trt_dp.errors import RequestRefused
from trt_dp.types import Facts, Failure, Request, Result, Timing

_WAIT = dt.timedelta(milliseconds=50)
_ALL_IDS = -1  # an end_id that no token has: an answer continues to the requested length


class Ending(Struct, frozen=True):
    """Where answers end: at their length, or at one of these stop ids before.

    TensorRT-LLM leaves some stop ids in the answer and takes others out, depending on how they were given
    and on its version, and calls one in the last place `length`. Here none is ever part of an answer.
    """

    stops: tuple[int, ...] = ()
    eos: tuple[int, ...] = ()  # those of the stops that need no mention
    least: int = 0  # no stop id ends an answer before

    @property
    def end_id(self) -> int:
        """What ends an answer first of all."""
        return self.stops[0] if self.stops else _ALL_IDS

    @property
    def words(self) -> list[int]:
        """The stop ids besides: none with a least length, which TensorRT-LLM heeds for its end_id alone."""
        return [] if self.least else list(self.stops[1:])

    @property
    def pad_id(self) -> int:
        """Any id of the vocabulary: it fills places that are never read."""
        return self.stops[0] if self.stops else 0

    def result(
        self, index: int, ids: list[int], reason: str, timing: Timing | None = None
    ) -> Result:
        """An answer without the stop id that ended it, and the reason why it ended."""
        ids, reason = self._cut(ids, reason)
        stop = self.stops[0] if reason == "stop" and self.stops else None
        if ids and ids[-1] in self.stops:
            ids, stop, reason = ids[:-1], ids[-1], "stop"
        return Result(
            index=index,
            output_ids=ids,
            finish_reason=reason,
            timing=timing,
            stop_reason=None if stop in self.eos else stop,
        )

    def _cut(self, ids: list[int], reason: str) -> tuple[list[int], str]:
        """Up to and with the first stop id beyond the least length, where TensorRT-LLM did not look for it."""
        if self.least:
            for place, one in enumerate(ids[self.least :], self.least):
                if one in self.stops:
                    return ids[: place + 1], "stop"
        return ids, reason


def ending_of(request: Request, eos: tuple[int, ...]) -> Ending:
    """Where this request's answer ends, besides at its length."""
    sampling = request.sampling
    known = () if sampling.ignore_eos else eos
    stops = (*known, *(one for one in sampling.stop_token_ids if one not in known))
    return Ending(stops, known, sampling.min_tokens)


class Inflight:
    """Requests in an Executor: handed over, in it, and answered, each exactly once.

    A request that fails is a result with its reason; so are all that are active when a forward pass fails,
    after which the Executor continues. Whatever else goes wrong with the Executor is an exception.
    """

    def __init__(self, api: Any, session: Any, eos: tuple[int, ...]) -> None:
        self._api = api
        self._session = session
        self._eos = eos
        self._outputs = [_output_config(api, logprobs=wanted) for wanted in (False, True)]
        self._reasons = {
            api.FinishReason.END_ID: "stop",
            api.FinishReason.STOP_WORDS: "stop",
            api.FinishReason.LENGTH: "length",
        }
        self._iterations = Iterations(session)
        self._waiting: list[tuple[Request, Any]] = []
        self._live: dict[int, Request] = {}
        self._heard = time.monotonic()

    def submit(self, request: Request) -> None:
        """Take a request; raises RequestRefused with TensorRT-LLM's reason if it makes none of it."""
        more: dict[str, Any] = {}
        ending = ending_of(request, self._eos)
        if ending.words:
            more["stop_words"] = [[one] for one in ending.words]
        try:
            asked = self._api.Request(
                input_token_ids=request.input_ids.tolist(),
                max_tokens=request.output_tokens,
                sampling_config=made(self._api.SamplingConfig, beam_width=1, **settings(request)),
                output_config=self._outputs[request.sampling.logprobs is not None],
                end_id=ending.end_id,
                pad_id=ending.pad_id,
                **more,
            )
        except (RuntimeError, ValueError, TypeError, OverflowError) as error:
            msg = f"TensorRT-LLM refuses it: {first_line(error)}"
            raise RequestRefused(msg) from error
        if not self._live and not self._waiting:  # nothing was to be heard until now
            self._heard = time.monotonic()
        self._waiting.append((request, asked))

    def step(self) -> list[Result]:
        """Hand over what waits, and give what is answered; returns within a moment when nothing is."""
        results = self._enqueue() if self._waiting else []
        if self._live:
            responses = self._session.await_responses(timeout=_WAIT)
            results += [result for one in responses if (result := self._take(one)) is not None]
        if self._iterations.look() or results or not self._live:
            self._heard = time.monotonic()
        return results

    def silent_seconds(self) -> float:
        """For how long TensorRT-LLM has shown no sign of life, with requests in flight."""
        return time.monotonic() - self._heard

    def facts(self) -> Facts:
        """What its iterations were like so far."""
        self._iterations.look(now=True)
        return self._iterations.facts()

    def _enqueue(self) -> list[Result]:
        """All at once; if that fails, one by one, to find the invalid one."""
        waiting, self._waiting = self._waiting, []
        try:
            ids = self._session.enqueue_requests(requests=[made for _, made in waiting])
        except RuntimeError:
            return [result for pair in waiting if (result := self._enqueue_one(*pair)) is not None]
        self._live.update(zip(ids, (request for request, _ in waiting), strict=True))
        return []

    def _enqueue_one(self, request: Request, made: Any) -> Result | None:
        try:
            self._live[self._session.enqueue_request(request=made)] = request
        except RuntimeError as error:
            if (
                not self._session.can_enqueue_requests()
            ):  # it is not the request: the Executor has ended
                raise
            return Result(request.index, error=Failure("engine_error", first_line(error)))
        return None

    def _take(self, response: Any) -> Result | None:
        """The result in a response, if it is the last of a request of ours."""
        request = self._live.get(response.request_id)
        if request is None:
            return None
        if response.has_error():  # before .result, which raises then
            del self._live[response.request_id]
            return Result(
                request.index, error=Failure("engine_error", first_line_of(response.error_msg))
            )
        if not response.result.is_final:
            return None
        del self._live[response.request_id]
        return self._finish(request, response.result)

    def _finish(self, request: Request, result: Any) -> Result:
        ids = list(result.output_token_ids[0])
        given = result.finish_reasons[0]
        reason = self._reasons.get(given)
        timing, ending = _timing(result.request_perf_metrics), ending_of(request, self._eos)
        problem = problem_of(request, len(ids), reason, stopping=bool(ending.stops))
        if reason is None:
            name = getattr(given, "name", str(given))
            problem = f"TensorRT-LLM ended it with {name} after {len(ids)} tokens"
        logprobs = None if request.sampling.logprobs is None else _logprobs(result)
        if logprobs is not None and len(logprobs) < len(ids):
            problem = f"TensorRT-LLM gave {len(logprobs)} log-probabilities for {len(ids)} tokens"
        if problem or reason is None:
            return Result(
                request.index, error=Failure("engine_error", problem or ""), timing=timing
            )
        return with_logprobs(ending.result(request.index, ids, reason, timing), logprobs)


def with_logprobs(result: Result, logprobs: list[float] | None) -> Result:
    """The answer with those of its own ids."""
    if logprobs is None:
        return result
    return structs.replace(result, logprobs=logprobs[: len(result.output_ids)])


def _output_config(api: Any, *, logprobs: bool) -> Any:
    wanted = {"return_log_probs": True} if logprobs else {}
    return api.OutputConfig(exclude_input_from_output=True, return_perf_metrics=True, **wanted)


def _logprobs(result: Any) -> list[float]:
    return [float(value) for value in result.log_probs[0]] if result.log_probs else []


def problem_of(request: Request, count: int, reason: str | None, *, stopping: bool) -> str | None:
    """What is wrong with an answer of this many tokens, if anything is."""
    asked = request.output_tokens
    if count > asked:
        return f"TensorRT-LLM gave {count} tokens where {asked} were asked for"
    if count < asked and (reason == "length" or not stopping):
        return f"TensorRT-LLM shortened it: {count} of the {asked} tokens asked for"
    return None


def first_line_of(message: str) -> str:
    """A message without what follows its first line."""
    return message.strip().partition("\n")[0] or "TensorRT-LLM gave no reason"


def _timing(metrics: Any) -> Timing | None:
    """Seconds from the request's arrival, by the Executor's clock; None where it did not take them all."""
    if metrics is None:
        return None
    times = metrics.timing_metrics
    arrival = times.arrival_time
    moments = (times.first_scheduled_time, times.first_token_time, times.last_token_time)
    if not all((arrival, *moments)):  # a time that is not set is zero
        return None
    seconds = [round((moment - arrival).total_seconds(), 6) for moment in moments]
    return Timing(*seconds) if min(seconds) >= 0 else None
