"""A request as the input tensors of TensorRT-LLM's Triton models."""

from __future__ import annotations

from typing import Any

from trt_dp.engines.triton.described import Model
from trt_dp.engines.triton.transport import Kind, Tensor
from trt_dp.engines.trtllm.inflight import Ending
from trt_dp.errors import RequestRefused
from trt_dp.types import Request, Sampling

CORE_OUTPUTS = ("output_ids", "sequence_length")
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
        _one("input_lengths", "INT32", len(ids)),
        _one("request_output_len", "INT32", request.output_tokens),
    ]
    if ending.stops:
        tensors += [_one("end_id", "INT32", ending.end_id), _one("pad_id", "INT32", ending.pad_id)]
    if ending.stops[1:]:
        tensors.append(stop_words([[one] for one in ending.stops[1:]]))
    tensors += sampling_inputs(request.sampling)
    if model.can_exclude:
        tensors.append(_one("exclude_input_in_output", "BOOL", value=True))
    if stream:
        tensors.append(_one("streaming", "BOOL", value=True))
    return _checked(model, tensors)


def smallest(model: Model) -> tuple[Tensor, ...]:
    """The inputs of the smallest request, to see whether a model answers at all."""
    if model.takes_ids:
        names = ("input_lengths", "request_output_len")
        return (
            Tensor("input_ids", "INT32", (1, 1), [1]),
            *(_one(name, "INT32", 1) for name in names),
        )
    return Tensor("text_input", "BYTES", (1, 1), ["a"]), _one("max_tokens", "INT32", 1)


def stop_words(words: list[list[int]]) -> Tensor:
    """Words as TensorRT-LLM takes them: the ids of all, and where each ends, filled up with -1."""
    ids = [one for word in words for one in word]
    ends = [sum(map(len, words[: place + 1])) for place in range(len(words))]
    filled = ends + [-1] * (len(ids) - len(ends))
    return Tensor("stop_words_list", "INT32", (1, 2, len(ids)), ids + filled)


def sampling_inputs(wish: Sampling) -> list[Tensor]:
    """How tokens are chosen: greedy, or by a random stream of the request's own. Only what is asked for is sent."""
    if wish.temperature == 0:
        chosen = [_one("runtime_top_k", "INT32", 1)]
    else:
        chosen = [
            _one("temperature", "FP32", wish.temperature),
            _one("runtime_top_p", "FP32", wish.top_p),
            _one("seed", "UINT64", wish.seed % 2**64),
        ]
        chosen += [_one("runtime_top_k", "INT32", wish.top_k)] if wish.top_k else []
    asked: list[tuple[str, Kind, float, float]] = [
        ("min_tokens", "INT32", wish.min_tokens, 0),
        ("repetition_penalty", "FP32", wish.repetition_penalty, 1.0),
        ("presence_penalty", "FP32", wish.presence_penalty, 0.0),
        ("frequency_penalty", "FP32", wish.frequency_penalty, 0.0),
    ]
    return chosen + [
        _one(name, kind, value) for name, kind, value, plain in asked if value != plain
    ]


def _one(name: str, kind: Kind, value: Any) -> Tensor:
    return Tensor(name, kind, (1, 1), [value])


def _checked(model: Model, tensors: list[Tensor]) -> tuple[Tensor, ...]:
    """Triton ignores inputs that a model does not declare, so asking for them would change nothing in silence."""
    missing = [one.name for one in tensors if one.name not in model.inputs]
    if missing:
        msg = f"the model {model.name} of this server has no input {', '.join(missing)}"
        raise RequestRefused(msg)
    return tuple(tensors)
