"""How much KV cache each of several instances on one GPU may have, so that all of them fit. Arithmetic only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from trt_dp.engines.folder import read_fields
from trt_dp.engines.gpu_memory import RUNTIME_BYTES, check_fit

SHARE = 0.9
"""Of what is left beside weights and buffers: TensorRT-LLM's own default."""

UNPREDICTABLE = (
    "several instances of a model on one GPU are not recommended by NVIDIA, and how fast they are is unpredictable: "
    "one instance with a larger batch mostly is faster"
)
_BITS = {"FP8": 8, "INT8": 8, "NVFP4": 4, "float32": 32}


class Cache(Struct, frozen=True, kw_only=True):
    """What an instance is told of its KV cache, and what to tell the user."""

    parameters: dict[str, str]
    notes: tuple[str, ...] = ()


def cache_of(instances: int, folder: Path, weights: int, free_bytes: int | None) -> Cache:
    """The KV cache of each instance; raises EngineRefused where not even the weights fit.

    TensorRT-LLM takes a fraction of what is free once an instance is loaded, so with a fraction alone the first
    instance gets most and the last may find nothing. Tokens are the same for all, in whatever order they load.
    """
    if instances == 1:
        return Cache(parameters={"kv_cache_free_gpu_mem_fraction": f"{SHARE:g}"})
    per_token = bytes_per_token(read_fields(folder / "config.json"))
    if free_bytes is None or per_token is None:
        return _by_fraction(instances)
    check_fit(instances, weights, free_bytes)
    room = free_bytes - instances * (weights + RUNTIME_BYTES)
    tokens = int(SHARE * room / instances / per_token)
    note = f"{instances} instances on each GPU, {tokens:,} tokens of KV cache for each"
    return Cache(
        parameters={
            "max_tokens_in_paged_kv_cache": str(tokens),
            "kv_cache_free_gpu_mem_fraction": f"{SHARE:g}",  # an upper bound that tokens stay below
        },
        notes=(note, UNPREDICTABLE),
    )


def _by_fraction(instances: int) -> Cache:
    fraction = SHARE / instances
    note = (
        f"the free memory of the GPU or the size of a token is unknown, so each of {instances} instances takes "
        f"{fraction:.2f} of what it finds free: the first to load gets most. "
        "Set max_tokens_in_paged_kv_cache to give all the same"
    )
    parameters = {"kv_cache_free_gpu_mem_fraction": f"{fraction:.3f}"}
    return Cache(parameters=parameters, notes=(note, UNPREDICTABLE))


def bytes_per_token(config: Mapping[str, Any]) -> int | None:
    """The bytes of one token in the KV cache of one GPU, by an engine's config.json; None where it does not say."""
    model = config.get("pretrained_config") or {}
    mapping = model.get("mapping") or {}
    heads = model.get("num_key_value_heads") or model.get("num_attention_heads")
    size = model.get("head_size") or _head_size(model)
    layers = model.get("num_hidden_layers")
    if not heads or not size or not layers:
        return None
    local_heads = -(-heads // mapping.get("tp_size", 1))
    local_layers = -(-layers // mapping.get("pp_size", 1))
    return int(2 * local_layers * local_heads * size * _bits(model) // 8)


def _head_size(model: Mapping[str, Any]) -> int:
    hidden, heads = model.get("hidden_size"), model.get("num_attention_heads")
    return hidden // heads if hidden and heads else 0


def _bits(model: Mapping[str, Any]) -> int:
    quantized = (model.get("quantization") or {}).get("kv_cache_quant_algo")
    return _BITS.get(quantized or model.get("dtype") or "", 16)
