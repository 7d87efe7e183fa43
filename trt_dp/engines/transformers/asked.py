"""What one request may ask of a loaded model: anything else is refused before it could break a batch."""

from __future__ import annotations

from msgspec import Struct

from trt_dp.engines.transformers.decoder import is_plain
from trt_dp.errors import RequestRefused
from trt_dp.types import Request, Sampling

_LEAST_TEMPERATURE = 1e-6


class Bounds(Struct, frozen=True, kw_only=True):
    """The limits of a model and its cache; 0 where there is none."""

    vocabulary: int
    positions: int
    room: int  # tokens that the KV cache holds
    eos: frozenset[int]
    plain_only: bool = False  # with CUDA graphs only the most likely token can be chosen


def check_request(request: Request, bounds: Bounds) -> None:
    """Raises RequestRefused with the limit that the request is beyond."""
    _check_ids(request, bounds.vocabulary)
    _check_sampling(request.sampling, bounds)
    inputs, outputs = len(request.input_ids), request.output_tokens
    total = inputs + outputs
    sizes = f"{inputs} input and {outputs} output tokens make {total}"
    if bounds.positions and total > bounds.positions:
        msg = f"{sizes}, and the model's max_position_embeddings is {bounds.positions}"
        raise RequestRefused(msg)
    if total > bounds.room:
        msg = f"{sizes}, and the KV cache has room for {bounds.room}: --set kv_cache_mb"
        raise RequestRefused(msg)


def _check_ids(request: Request, vocabulary: int) -> None:
    ids = request.input_ids
    if not len(ids):
        msg = "the prompt has no tokens"
        raise RequestRefused(msg)
    if ids.min() < 0 or ids.max() >= vocabulary:
        wrong = ids.min() if ids.min() < 0 else ids.max()
        msg = f"`input_ids` holds {wrong}, and the model's vocabulary has {vocabulary} ids"
        raise RequestRefused(msg)


def _check_sampling(sampling: Sampling, bounds: Bounds) -> None:
    if 0 < sampling.temperature < _LEAST_TEMPERATURE:
        msg = f"`temperature` is {sampling.temperature}: it must be 0 (greedy) or at least {_LEAST_TEMPERATURE}"
        raise RequestRefused(msg)
    if sampling.min_p == 1:
        msg = "`min_p` is 1: it must be below 1 (temperature 0 takes the most likely token)"
        raise RequestRefused(msg)
    wrong = [token for token in sampling.stop_token_ids if token >= bounds.vocabulary]
    if wrong and sampling.min_tokens:
        msg = f"`stop_token_ids` holds {wrong[0]}, and the model's vocabulary has {bounds.vocabulary} ids"
        raise RequestRefused(msg)
    if bounds.plain_only and (not is_plain(sampling) or sampling.stop):
        msg = "with --set cuda_graph=true a request cannot have sampling, penalties, `logprobs`, `min_tokens` or `stop`"
        raise RequestRefused(msg)
