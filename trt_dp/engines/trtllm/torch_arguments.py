"""What `--set` options of the engine trtllm-torch mean to TensorRT-LLM's LLM: names and checks of tensorrt_llm.LLM.

Pure, but for `speculative`, which asks the library. The names are the same in llm_args.py of 1.0, 1.1, 1.2 and 1.3,
except for KvCacheConfig's `dtype`, which early 1.0 lacks: there TensorRT-LLM refuses it by name.
"""

from __future__ import annotations

import importlib
from typing import Any

import msgspec
from msgspec import Struct

from trt_dp.errors import EngineRefused, UsageError

_FOR_EXAMPLE = """--set 'speculative={"decoding_type": "NGram", "max_draft_len": 4}'"""


class TorchSettings(Struct, frozen=True, kw_only=True):
    """What a user may set of the LLM; zero and nothing mean what TensorRT-LLM takes by itself."""

    tensor_parallel_size: int = 0  # 0: all GPUs of the worker
    pipeline_parallel_size: int = 1
    dtype: str = "auto"
    max_batch_size: int = 0
    max_num_tokens: int = 0
    max_seq_len: int = 0
    kv_fraction: float = 0.9
    kv_dtype: str = ""
    block_reuse: bool = False
    chunked_prefill: bool = False
    trust_remote_code: bool = False
    speculative: str = ""  # JSON, with the fields of a decoding config


def check(settings: TorchSettings) -> None:
    """Raises UsageError for a number that is none, or settings that are no JSON object."""
    if not 0 < settings.kv_fraction < 1:
        msg = f"--set kv_fraction={settings.kv_fraction}: it must be above 0 and below 1"
        raise UsageError(msg)
    sizes = ("tensor_parallel_size", "max_batch_size", "max_num_tokens", "max_seq_len")
    for name in sizes:
        if getattr(settings, name) < 0:
            msg = f"--set {name}={getattr(settings, name)}: it must be 0 (automatic) or more"
            raise UsageError(msg)
    if settings.pipeline_parallel_size < 1:
        msg = (
            f"--set pipeline_parallel_size={settings.pipeline_parallel_size}: it must be at least 1"
        )
        raise UsageError(msg)
    _decoding(settings)


def parallel(settings: TorchSettings, devices: int) -> dict[str, int]:
    """How the model is spread over the GPUs of the worker; raises EngineRefused unless it uses all of them."""
    stages = settings.pipeline_parallel_size
    parts = settings.tensor_parallel_size or max(1, devices // stages)
    if parts * stages != devices:
        product = f"tensor_parallel_size {parts} times pipeline_parallel_size {stages}"
        msg = f"{product} is {parts * stages}, and each worker has {devices} GPUs: use --n-gpus {parts * stages}"
        raise EngineRefused(msg)
    sizes = {"tensor_parallel_size": parts}
    return {**sizes, "pipeline_parallel_size": stages} if stages > 1 else sizes


def arguments(settings: TorchSettings) -> dict[str, Any]:
    """What else was asked for, by the LLM's own names."""
    wished = {
        "max_batch_size": settings.max_batch_size,
        "max_num_tokens": settings.max_num_tokens,
        "max_seq_len": settings.max_seq_len,
        "enable_chunked_prefill": settings.chunked_prefill,
        "trust_remote_code": settings.trust_remote_code,
        "dtype": "" if settings.dtype == "auto" else settings.dtype,
        "speculative_config": speculative(settings),
    }
    return {name: value for name, value in wished.items() if value}


def cache(settings: TorchSettings, fraction: float) -> dict[str, Any]:
    """The KV cache's settings, by the names of KvCacheConfig."""
    dtype = {"dtype": settings.kv_dtype} if settings.kv_dtype else {}
    return {
        "free_gpu_memory_fraction": fraction,
        "enable_block_reuse": settings.block_reuse,
        **dtype,
    }


def speculative(settings: TorchSettings) -> Any:
    """The decoding config of the kind that `decoding_type` names.

    Up to 1.2 TensorRT-LLM chooses the kind in DecodingBaseConfig.from_dict; since 1.3 its LLM does, from the fields.
    """
    fields = _decoding(settings)
    if not fields:
        return None
    known = importlib.import_module("tensorrt_llm.llmapi.llm_args")
    choose = getattr(getattr(known, "DecodingBaseConfig", None), "from_dict", None)
    return choose(fields) if choose else fields


def _decoding(settings: TorchSettings) -> dict[str, Any]:
    if not settings.speculative:
        return {}
    try:
        fields = msgspec.json.decode(settings.speculative, type=dict[str, Any])
    except msgspec.DecodeError as error:
        msg = f"--set speculative is not a JSON object ({error}): write it like {_FOR_EXAMPLE}"
        raise UsageError(msg) from error
    if "decoding_type" not in fields:
        msg = f"--set speculative names no decoding_type: write it like {_FOR_EXAMPLE}"
        raise UsageError(msg)
    return fields
