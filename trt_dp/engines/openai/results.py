"""A server's answer as a Result, with its counts and times."""

from __future__ import annotations

from msgspec import Struct

from trt_dp.engines.openai.ask import Api
from trt_dp.engines.openai.chunks import Answer
from trt_dp.engines.openai.dialect import Dialect
from trt_dp.engines.openai.reading import Trouble
from trt_dp.types import Request, Result, Timing
from trt_dp.web.exchange import Exchange, Reply

_REASONS = {"eos": "stop", "end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length"}


class Sent(Struct, kw_only=True):
    """A request on its way: waiting, then in flight, then perhaps doubtful."""

    request: Request
    exchange: Exchange
    api: Api
    began: float
    name: str = ""  # of this try; some servers put it into their answer
    number: int = 0
    trouble: Trouble | None = None


def result_of(sent: Sent, answer: Answer, reply: Reply, dialect: Dialect) -> Result:
    """The Result; its times count from when the request was submitted, where the answer was streamed."""
    request = sent.request
    reason = answer.finish_reason or "stop"
    ids = _ids(answer, dialect)
    return Result(
        request.index,
        ids or [],
        finish_reason=_REASONS.get(reason, reason),
        stop_reason=_stop_reason(answer, request),
        logprobs=answer.logprobs if request.sampling.logprobs is not None else None,
        text=None
        if ids == []
        else answer.text,  # no ids at all: it stopped at once, and no text is left
        reasoning=answer.reasoning or None,
        input_tokens=answer.usage.prompt_tokens,
        output_tokens=answer.usage.completion_tokens if ids is None else None,
        timing=_timing(answer, reply, sent.began) if reply.times else None,
    )


def _stop_reason(answer: Answer, request: Request) -> int | str | None:
    """What ended the answer; some servers name the EOS too, which is no stop of the request's."""
    named = answer.stop_reason
    asked_for = isinstance(named, str) or named in request.sampling.stop_token_ids
    return named if asked_for else None


def _ids(answer: Answer, dialect: Dialect) -> list[int] | None:
    """The ids without the one that stopped the answer; None where none came, or a stop string cut the text only."""
    if not answer.ids or (dialect.ids_with_stop and isinstance(answer.stop_reason, str)):
        return None
    stopped = answer.finish_reason == "stop" and dialect.ids_with_stop
    return answer.ids[:-1] if stopped else answer.ids


def _timing(answer: Answer, reply: Reply, began: float) -> Timing:
    return Timing(
        queue_seconds=round(reply.submitted - began, 6),
        first_token_seconds=round(reply.times[answer.first] - began, 6),
        total_seconds=round(reply.done - began, 6),
    )
