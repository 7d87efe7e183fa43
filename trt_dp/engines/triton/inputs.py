"""A request as the input tensors of TensorRT-LLM's Triton models."""

from __future__ import annotations

from typing import Any

from trt_dp.engines.triton.described import Model
from trt_dp.engines.triton.transport import Kind, Tensor
from trt_dp.engines.trtllm.inflight import Ending
from trt_dp.errors import RequestRefused
from trt_dp.types import Request, Sampling

CORE_OUTPUTS = ("output_ids", "sequence_length")
LOG_PROBS = "output_log_probs"
_MOST_ID = 2**31 - 1


def core_inputs(
    model: Model, request: Request, ending: Ending, *, stream: bool
) -> tuple[Tensor, ...]:
    """For the core model, which takes ids; raises RequestRefused for what it has no input for."""
    ids = request.input_ids.tolist()
    if max(ids) > _MOST_ID:
        msg = f"`input_ids` holds {max(ids)}, and Triton takes ids up to {_MOST_ID}"
        raise RequestRefused(msg)
    tensors = [
        Tensor("input_ids", "INT32", (1, len(ids)), ids),
        scalar("input_lengths", "INT32", len(ids)),
        scalar("request_output_len", "INT32", request.output_tokens),
    ]
    if ending.stops:
        tensors += [
            scalar("end_id", "INT32", ending.end_id),
            scalar("pad_id", "INT32", ending.pad_id),
        ]
    if ending.stops[1:]:
        tensors.append(stop_words([[one] for one in ending.stops[1:]]))
    tensors += sampling_inputs(request.sampling)
    if request.sampling.logprobs is not None:
        tensors.append(scalar("return_log_probs", "BOOL", value=True))
    if model.can_exclude:
        tensors.append(scalar("exclude_input_in_output", "BOOL", value=True))
    if stream:
        tensors.append(scalar("streaming", "BOOL", value=True))
    return declared(model, tensors)


def smallest(model: Model, *, stream: bool) -> tuple[Tensor, ...]:
    """The inputs of the smallest request, to see whether a model answers at all."""
    if model.takes_ids:
        names = ("input_lengths", "request_output_len")
        streams = [scalar("streaming", "BOOL", value=True)] if stream else []
        ones = [scalar(name, "INT32", 1) for name in names]
        return (Tensor("input_ids", "INT32", (1, 1), [1]), *ones, *streams)
    streams = [scalar("stream", "BOOL", value=True)] if stream else []
    text = Tensor("text_input", "BYTES", (1, 1), ["a"])
    return (text, scalar("max_tokens", "INT32", 1), *streams)


def stop_words(words: list[list[int]]) -> Tensor:
    """Words as TensorRT-LLM takes them: the ids of all, and where each ends, filled up with -1."""
    ids = [one for word in words for one in word]
    ends = [sum(map(len, words[: place + 1])) for place in range(len(words))]
    filled = ends + [-1] * (len(ids) - len(ends))
    return Tensor("stop_words_list", "INT32", (1, 2, len(ids)), ids + filled)


def sampling_inputs(wish: Sampling) -> list[Tensor]:
    """How tokens are chosen: greedy, or by a random stream of the request's own. Only what is asked for is sent."""
    if wish.temperature == 0:
        chosen = [scalar("runtime_top_k", "INT32", 1)]
    else:
        chosen = [
            scalar("temperature", "FP32", wish.temperature),
            scalar("runtime_top_p", "FP32", wish.top_p),
            scalar("seed", "UINT64", wish.seed % 2**64),
        ]
        chosen += [scalar("runtime_top_k", "INT32", wish.top_k)] if wish.top_k else []
    asked: list[tuple[str, Kind, float, float]] = [
        ("min_tokens", "INT32", wish.min_tokens, 0),
        ("repetition_penalty", "FP32", wish.repetition_penalty, 1.0),
        ("presence_penalty", "FP32", wish.presence_penalty, 0.0),
        ("frequency_penalty", "FP32", wish.frequency_penalty, 0.0),
    ]
    return chosen + [
        scalar(name, kind, value) for name, kind, value, plain in asked if value != plain
    ]


def scalar(name: str, kind: Kind, value: Any) -> Tensor:
    """An input of one value."""
    return Tensor(name, kind, (1, 1), [value])


def declared(model: Model, tensors: list[Tensor]) -> tuple[Tensor, ...]:
    """Triton ignores inputs that a model does not declare, so asking for them would change nothing in silence."""
    missing = [one.name for one in tensors if one.name not in model.inputs]
    if missing:
        msg = f"the model {model.name} of this server has no input {', '.join(missing)}"
        raise RequestRefused(msg)
    return tuple(tensors)
