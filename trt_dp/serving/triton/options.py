"""What `--set` can say of Triton's models."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from trt_dp.errors import UsageError
from trt_dp.plugins import alternatives


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of `--set`, mostly by the names of NVIDIA's templates; None leaves a parameter to TensorRT-LLM."""

    backend: str = "tensorrtllm"  # or the path of a model.py with the same tensors
    decoupled: bool = True
    max_queue_size: Annotated[int, Meta(ge=0)] = 0
    text_instances: Annotated[int, Meta(ge=1)] = 1
    max_tokens_in_paged_kv_cache: Annotated[int, Meta(ge=1)] | None = None
    kv_cache_free_gpu_mem_fraction: Annotated[float, Meta(gt=0, lt=1)] | None = None
    kv_cache_host_memory_bytes: Annotated[int, Meta(ge=0)] | None = None
    max_attention_window_size: str | None = None
    sink_token_length: Annotated[int, Meta(ge=0)] | None = None
    enable_kv_cache_reuse: bool | None = None
    enable_chunked_context: bool | None = None
    batch_scheduler_policy: str | None = None
    decoding_mode: str | None = None
    max_beam_width: Annotated[int, Meta(ge=1)] | None = None
    multi_block_mode: bool | None = None
    cuda_graph_mode: bool | None = None


_OURS = ("backend", "decoupled", "max_queue_size", "text_instances")


def read(given: dict[str, str]) -> Options:
    """The options as given; raises UsageError for an unknown key or a wrong value."""
    known = Options.__struct_fields__
    for name in given:
        if name not in known:
            msg = f"there is no option {name!r} for --set with --server triton{alternatives(name, known)}"
            raise UsageError(msg)
    try:
        return msgspec.convert(given, Options, strict=False)
    except msgspec.ValidationError as error:
        msg = f"--set for the server triton: {error}"
        raise UsageError(msg) from error


def parameters(options: Options) -> dict[str, str]:
    """Those that are parameters of the core model, as its config writes them."""
    names = [name for name in Options.__struct_fields__ if name not in _OURS]
    found = {name: getattr(options, name) for name in names}
    return {name: _text(value) for name, value in found.items() if value is not None}


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
