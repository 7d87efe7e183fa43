"""A server's answer as a Result, with its counts and times."""

from __future__ import annotations

from trt_dp.engines.openai.chunks import Answer
from trt_dp.types import Request, Result, Timing
from trt_dp.web.exchange import Reply

_REASONS = {"eos": "stop", "end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length"}


def result_of(request: Request, answer: Answer, reply: Reply, began: float) -> Result:
    """The Result; its times count from when the request was submitted, where the answer was streamed."""
    reason = answer.finish_reason or "stop"
    return Result(
        request.index,
        _ids(answer),
        finish_reason=_REASONS.get(reason, reason),
        stop_reason=answer.stop_reason,
        logprobs=answer.logprobs if request.sampling.logprobs is not None else None,
        text=answer.text,
        input_tokens=answer.usage.prompt_tokens,
        output_tokens=answer.usage.completion_tokens,
        timing=_timing(answer, reply, began) if reply.times else None,
    )


def _ids(answer: Answer) -> list[int]:
    """The ids without the one that stopped the answer; none where a stop string cut the text and not the ids."""
    if answer.finish_reason != "stop" or not answer.ids:
        return answer.ids
    if isinstance(answer.stop_reason, str):
        return []
    return answer.ids[:-1]


def _timing(answer: Answer, reply: Reply, began: float) -> Timing:
    return Timing(
        queue_seconds=round(reply.submitted - began, 6),
        first_token_seconds=round(reply.times[answer.first] - began, 6),
        total_seconds=round(reply.done - began, 6),
    )
