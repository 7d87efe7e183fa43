"""The ensemble and the BLS model: text in, text out."""

from __future__ import annotations

from itertools import chain
from typing import Any

from msgspec import structs

from trt_dp.engines.triton.core_form import timing
from trt_dp.engines.triton.described import Model
from trt_dp.engines.triton.inputs import declared, sampling_inputs, scalar
from trt_dp.engines.triton.transport import Outcome, Tensor
from trt_dp.errors import RequestRefused
from trt_dp.types import Request, Result, Returned

_TEXT, _OUT, _IN = "text_output", "num_output_tokens", "num_input_tokens"
_NAMES = {"runtime_top_k": "top_k", "runtime_top_p": "top_p"}
_COUNTS = ("return_num_output_tokens", "return_num_input_tokens")
_NO_EOS = -1


class TextForm:
    """Requests and answers of `ensemble` and `tensorrt_llm_bls`."""

    takes_ids = False

    def outputs(self, _request: Request) -> tuple[str, ...]:
        """The text, and how many tokens there were."""
        return (_TEXT, _OUT, _IN)

    def inputs(self, model: Model, request: Request, *, stream: bool) -> tuple[Tensor, ...]:
        """Its tensors; stop strings go to the server, so that it need not answer to the full length."""
        _check(request)
        sampling = request.sampling
        tensors = [
            Tensor("text_input", "BYTES", (1, 1), [request.prompt]),
            scalar("max_tokens", "INT32", request.output_tokens),
            *(
                structs.replace(one, name=_NAMES.get(one.name, one.name))
                for one in sampling_inputs(sampling)
            ),
        ]
        if sampling.stop:
            words = list(sampling.stop)
            tensors.append(Tensor("stop_words", "BYTES", (1, len(words)), words))
        if sampling.ignore_eos:
            tensors.append(scalar("end_id", "INT32", _NO_EOS))
        if stream:
            tensors.append(scalar("stream", "BOOL", value=True))
        wanted = ("exclude_input_in_output", *_COUNTS)
        helpful = [name for name in wanted if name in model.inputs]
        return declared(model, [*tensors, *(scalar(name, "BOOL", value=True) for name in helpful)])

    def result(self, model: Model, request: Request, outcome: Outcome) -> Result | Returned:
        """Its text, up to where a stop string begins."""
        texts = ["".join(response[_TEXT]) for response in outcome.responses if response.get(_TEXT)]
        if not texts:
            return Returned(request.index, "the server ended the answer before it began", "request")
        whole = texts[-1] if model.accumulates else "".join(texts)
        if not model.can_exclude:
            whole = whole.removeprefix(request.prompt or "")
        return _ended(request, whole, outcome)


def _check(request: Request) -> None:
    if request.prompt is None:
        msg = "this prompt is not text, and text is what the model takes: use --engine triton with the core model"
        raise RequestRefused(msg)
    if request.sampling.stop_token_ids:
        msg = "stop_token_ids need the core model, which gives ids: use --engine triton"
        raise RequestRefused(msg)


def _ended(request: Request, text: str, outcome: Outcome) -> Result:
    """The answer; servers leave the stop string in it."""
    found = [(text.find(word), word) for word in request.sampling.stop if word in text]
    place, word = min(found, default=(len(text), None))
    tokens = _count(outcome, _OUT)
    reason = _reason(tokens, request.output_tokens)
    return Result(
        index=request.index,
        text=text[:place],
        finish_reason="stop" if word is not None else reason,
        stop_reason=word,
        timing=timing(outcome),
        input_tokens=_count(outcome, _IN, first=True),
        output_tokens=tokens,
    )


def _reason(tokens: int | None, most: int) -> str:
    """Why it ended, which these models do not say: their count of tokens tells."""
    if tokens is None:
        return "unknown"
    return "length" if tokens >= most else "stop"


def _count(outcome: Outcome, name: str, *, first: bool = False) -> int | None:
    """A number of tokens, where the server gives it with its responses."""
    given: list[Any] = list(
        chain.from_iterable(response.get(name, []) for response in outcome.responses)
    )
    if not given:
        return None
    return int(given[0]) if first else sum(given)
