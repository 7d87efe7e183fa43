"""From requests to vLLM's parameters, and from its outputs to results. Pure, but for the classes it is given."""

from __future__ import annotations

from typing import Any

import msgspec

from trt_dp.engines.vllm.growing import Growing
from trt_dp.engines.vllm.library import Library
from trt_dp.types import Failure, Form, Request, Result, Returned, Sampling, Timing

_SEEDS = 2**63  # -1 would mean no seed to vLLM, and some of its kernels take 63 bits
_JSON = ("json", "choice")


def stops_of(request: Request, eos: frozenset[int]) -> frozenset[int]:
    """The ids that end this answer."""
    own = frozenset(request.sampling.stop_token_ids)
    return own if request.sampling.ignore_eos else own | eos


def parameters(made: Library, request: Request, eos: frozenset[int], *, watched: bool) -> Any:
    """How vLLM is to answer; an EOS is one stop id among others to it, so that its own list of them does not matter.

    A watched answer comes token by token.
    """
    sampling, stops = request.sampling, stops_of(request, eos)
    form = sampling.structured_outputs
    return made.sampling_params(
        max_tokens=request.output_tokens,
        min_tokens=sampling.min_tokens if stops else 0,
        stop_token_ids=sorted(stops),
        ignore_eos=True,
        detokenize=False,
        output_kind=made.delta if watched else made.final_only,
        logprobs=None if sampling.logprobs is None else 0,  # 0: of the chosen tokens alone
        repetition_penalty=sampling.repetition_penalty,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        structured_outputs=None if form is None else made.structured(**_form(form)),
        **_drawing(sampling),
    )


def result(
    request: Request, answer: Growing, eos: frozenset[int], timing: Timing | None
) -> Result | Returned:
    """The result of a finished answer; what is no complete one is given back, or is an error."""
    ids, reason = answer.ids, answer.reason
    if reason not in ("stop", "length"):
        return Returned(request.index, f"vLLM ended it with {reason}", "request")
    if reason == "length" and len(ids) != request.output_tokens:
        said = f"vLLM ended it after {len(ids)} of {request.output_tokens} tokens"
        return Result(request.index, error=Failure("engine_error", said), timing=timing)
    last = ids[-1] if ids else None
    stopped = reason == "stop" and last in stops_of(request, eos)
    is_eos = last in eos and not request.sampling.ignore_eos
    kept = ids[:-1] if stopped else ids
    return Result(
        index=request.index,
        output_ids=kept,
        finish_reason=reason,
        timing=timing,
        stop_reason=last if stopped and not is_eos else None,
        logprobs=None if answer.logprobs is None else answer.logprobs[: len(kept)],
    )


def timing_of(metrics: Any, submitted: float, now: float) -> Timing | None:
    """Durations by vLLM's own clock, which in one process is ours; None without its statistics."""
    if metrics is None or not metrics.first_token_ts:
        return None
    return Timing(
        queue_seconds=round(max(0.0, metrics.scheduled_ts - submitted), 6),
        first_token_seconds=round(max(0.0, metrics.first_token_ts - submitted), 6),
        total_seconds=round(now - submitted, 6),
    )


def _drawing(sampling: Sampling) -> dict[str, Any]:
    if not sampling.temperature:
        return {"temperature": 0.0}
    return {
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "min_p": sampling.min_p,
        "seed": sampling.seed % _SEEDS,
    }


def _form(form: Form) -> dict[str, Any]:
    if form.kind == "json_object":
        return {"json_object": True}
    return {form.kind: msgspec.json.decode(form.value) if form.kind in _JSON else form.value}
