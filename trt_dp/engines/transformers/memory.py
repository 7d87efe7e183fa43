"""How much memory one worker's KV cache may take, on a CPU or on a GPU that several share (arithmetic alone)."""

from __future__ import annotations

from msgspec import Struct

from trt_dp.engines.gpu_memory import RUNTIME_BYTES
from trt_dp.errors import EngineRefused

_GIB = 2**30


class GpuShare(Struct, frozen=True, kw_only=True):
    """What is known of a GPU once the weights are on it."""

    total: int
    free: int
    weights: int
    sharers: int
    fraction: float  # of what is free; for several that share a GPU, the part of this one
    part: float  # of the whole GPU that all sharers together may take


def gpu_budget(share: GpuShare) -> int:
    """Bytes for the KV cache: a part of what is free, and never more than an even share of the GPU.

    The second matters where others have not filled their caches yet: what is free now is not all free to take.
    """
    even = int(share.total * share.part) // share.sharers - share.weights - RUNTIME_BYTES
    free = int(share.free * share.fraction)
    return max(0, free if share.sharers == 1 else min(free, even))


def padded_room(budget: int, token_bytes: int, layers: int, groups: int) -> int:
    """How many tokens a rectangle may have in this memory.

    Each step copies the keys and values of a layer to append to them, and may repeat them for all heads.
    """
    each = token_bytes + token_bytes * (1 + groups) // layers
    return budget // each


def check_weights(weights: int, available: int, where: str) -> None:
    """Raises EngineRefused for a model that is larger than the memory."""
    if weights > available:
        msg = (
            f"the weights take {weights / _GIB:.1f} GiB, and {available / _GIB:.1f} GiB are free {where}: "
            "use fewer workers, --set dtype=bfloat16, or a smaller model"
        )
        raise EngineRefused(msg)
