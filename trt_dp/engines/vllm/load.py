"""Loads a checkpoint into vLLM: which arguments it gets besides those of the user, and what a refusal means."""

from __future__ import annotations

import os
from typing import Any

from trt_dp.engines.cpu.memory import cache_share
from trt_dp.engines.gpu_sharing import Seat
from trt_dp.engines.vllm import library
from trt_dp.engines.vllm.arguments import Settings
from trt_dp.engines.vllm.checkpoint import Checkpoint
from trt_dp.engines.vllm.library import Library, sentence
from trt_dp.errors import EngineRefused
from trt_dp.types import Placement

_SHARE = 0.92  # vLLM's own default of gpu_memory_utilization
_MOST_CPU_CACHE = 4 * 2**30
_LEAST_CPU_CACHE = 2**28


def arguments(
    made: Library, settings: Settings, model: Checkpoint, placement: Placement
) -> dict[str, Any]:
    """All arguments for EngineArgs; raises UsageError for a value that vLLM does not take."""
    given = library.parse(made, settings.arguments)
    sizes = _parallel(given, len(placement.devices))
    ranks = sizes["tensor_parallel_size"] * sizes["pipeline_parallel_size"]
    if made.platform.is_cpu() and ranks > 1:
        _bind_threads(placement, ranks)
    ours = {
        "model": str(model.folder),
        "skip_tokenizer_init": not model.has_tokenizer and "tokenizer" not in given,
        "generation_config": "vllm",  # a request decides all of its sampling itself
        **sizes,
        **({"distributed_executor_backend": "mp"} if ranks > 1 else {}),
        **(_on_cpu(given, model, placement) if made.platform.is_cpu() else {}),
    }
    if placement.sharers > 1:
        given["gpu_memory_utilization"] = (settings.memory_share or _SHARE) / placement.sharers
    return {**ours, **given}


def load(made: Library, arguments: dict[str, Any], seat: Seat, weights: int) -> Any:
    """The engine of vLLM, alone on its GPUs while it measures their memory; raises EngineRefused in vLLM's words."""
    share = arguments.get("gpu_memory_utilization", _SHARE)
    with seat.loading(share, weights):
        try:
            engine = made.engine.from_engine_args(
                made.engine_args(**arguments), usage_context=made.offline
            )
        except Exception as error:  # pydantic, PyTorch and the model's own code: anything may come
            msg = f"vLLM {made.version} cannot load {arguments['model']}: {sentence(error)}"
            raise EngineRefused(msg) from error
    engine.logger_manager = None  # nobody reads its Prometheus metrics here, and each step pays
    return engine


def _bind_threads(placement: Placement, ranks: int) -> None:
    """Each of several ranks on a CPU has its part of the worker's cores, unless the user has said otherwise."""
    cores = placement.cores
    parts = [cores[rank::ranks] for rank in range(ranks)] if len(cores) >= ranks else []
    said = "|".join(",".join(map(str, part)) for part in parts) or "nobind"
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", said)


def _parallel(given: dict[str, Any], devices: int) -> dict[str, int]:
    """The model on all GPUs of the worker; raises EngineRefused unless it uses each of them."""
    stages = given.get("pipeline_parallel_size", 1)
    parts = given.get("tensor_parallel_size", max(1, devices // stages))
    if devices and parts * stages != devices:
        product = f"tensor_parallel_size {parts} times pipeline_parallel_size {stages}"
        msg = f"{product} is {parts * stages}, and each worker has {devices} GPUs: use --n-gpus {parts * stages}"
        raise EngineRefused(msg)
    return {"tensor_parallel_size": parts, "pipeline_parallel_size": stages}


def _on_cpu(given: dict[str, Any], model: Checkpoint, placement: Placement) -> dict[str, Any]:
    """No split prompts, since those of requests with a seed crash there; and the worker's share of the memory."""
    ours: dict[str, Any] = {"enable_chunked_prefill": False}
    if not {"gpu_memory_utilization", "kv_cache_memory_bytes"} & given.keys():
        cores = len(placement.cores) or os.cpu_count() or 1
        share = min(cache_share(cores, model.weight_bytes), _MOST_CPU_CACHE)
        ours["kv_cache_memory_bytes"] = max(share, _LEAST_CPU_CACHE)
    return ours
