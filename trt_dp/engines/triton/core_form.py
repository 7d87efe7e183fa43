"""The core model: ids in, ids out."""

from __future__ import annotations

from itertools import chain
from typing import Any

from msgspec import structs

from trt_dp.engines.triton.described import Model
from trt_dp.engines.triton.inputs import CORE_OUTPUTS, LOG_PROBS, core_inputs
from trt_dp.engines.triton.transport import Outcome, Tensor
from trt_dp.engines.trtllm.inflight import Ending, ending_of
from trt_dp.types import Failure, Request, Result, Returned, Timing

_CUT_SHORT = "the answer has {} of {} tokens, and nothing that ends it: it was cut off"


class CoreForm:
    """Requests and answers of `tensorrt_llm`; `eos` are the ids that end an answer."""

    takes_ids = True

    def __init__(self, eos: tuple[int, ...]) -> None:
        self._eos = eos

    def outputs(self, request: Request) -> tuple[str, ...]:
        """The ids, and their log-probabilities where they are asked for."""
        return CORE_OUTPUTS if request.sampling.logprobs is None else (*CORE_OUTPUTS, LOG_PROBS)

    def inputs(self, model: Model, request: Request, *, stream: bool) -> tuple[Tensor, ...]:
        """Its tensors."""
        return core_inputs(model, request, ending_of(request, self._eos), stream=stream)

    def result(self, model: Model, request: Request, outcome: Outcome) -> Result | Returned:
        """Its ids, without what ended them."""
        return ids_result(request, ending_of(request, self._eos), model, outcome)


def ids_result(
    request: Request, ending: Ending, model: Model, outcome: Outcome
) -> Result | Returned:
    """Of the core model's ids; an answer that is cut off goes back for another try."""
    if not outcome.responses:
        return Returned(request.index, "the server ended the answer before it began", "request")
    ids = list(chain.from_iterable(map(_ids, outcome.responses)))
    prompt, most = request.input_ids.tolist(), request.output_tokens
    if model.includes_input and not model.can_exclude and len(outcome.responses) == 1:
        if ids[: len(prompt)] != prompt:
            error = Failure("engine_error", "the answer does not begin with the prompt")
            return Result(request.index, error=error)
        ids = ids[len(prompt) :]
    if len(ids) > most:
        error = Failure("engine_error", f"{len(ids)} tokens where {most} were asked for")
        return Result(request.index, error=error)
    if len(ids) < most and not ending.stops:
        return Returned(request.index, _CUT_SHORT.format(len(ids), most), "request")
    reason = "stop" if len(ids) < most else "length"
    answer = ending.result(request.index, ids, reason, timing(outcome))
    return answer if request.sampling.logprobs is None else _measured(answer, len(ids), outcome)


def _measured(answer: Result, given: int, outcome: Outcome) -> Result:
    """The answer with the log-probabilities of its ids, of which so many were given; none may be missing."""
    found = list(chain.from_iterable(one.get(LOG_PROBS, []) for one in outcome.responses))
    if len(found) != given:
        error = Failure("engine_error", f"{len(found)} log-probabilities for {given} tokens")
        return Result(answer.index, error=error)
    return structs.replace(answer, logprobs=found[: len(answer.output_ids)])


def _ids(response: dict[str, list[Any]]) -> list[int]:
    """The ids of one response, without what fills up shorter beams."""
    ids = response.get("output_ids", [])
    length = response.get("sequence_length", [len(ids)])[0]
    return [one for one in ids[:length] if one >= 0]


def timing(outcome: Outcome) -> Timing | None:
    """The time of the first token, which only a stream shows."""
    if len(outcome.times) < 2:
        return None
    first = round(outcome.times[0], 6)
    return Timing(
        queue_seconds=0.0, first_token_seconds=first, total_seconds=round(outcome.seconds, 6)
    )
