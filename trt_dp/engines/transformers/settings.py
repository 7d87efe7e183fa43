"""What --set can ask of the engine `transformers`, checked before anything heavy is loaded."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from trt_dp.errors import UsageError

Mode = Literal["auto", "padded", "continuous"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]


class Settings(Struct, frozen=True, kw_only=True):
    """The --set keys; 0 means that the engine chooses."""

    mode: Mode
    dtype: Dtype
    attention: str
    max_sequences: int
    max_batched_tokens: int
    kv_cache_mb: int
    memory_fraction: float
    page_size: int
    cuda_graph: bool
    threads: int
    trust_remote_code: bool


class Limits(Struct, frozen=True, kw_only=True):
    """How much is decoded at once; all of it is decided."""

    max_sequences: int
    max_batched_tokens: int
    room: int  # tokens of all sequences together that the KV cache may hold


def check(settings: Settings) -> None:
    """Raises UsageError for a value that cannot be."""
    for name in ("max_sequences", "max_batched_tokens", "kv_cache_mb", "page_size", "threads"):
        if (value := getattr(settings, name)) < 0:
            msg = f"--set {name}={value}: it must be 0 (automatic) or more"
            raise UsageError(msg)
    if not 0 < settings.memory_fraction <= 1:
        msg = f"--set memory_fraction={settings.memory_fraction}: it must be above 0 and at most 1"
        raise UsageError(msg)
    if 0 < settings.page_size < 4:
        msg = f"--set page_size={settings.page_size}: it must be 4 or more, or 0 (automatic)"
        raise UsageError(msg)
    if settings.cuda_graph and settings.mode != "continuous":
        msg = "--set cuda_graph=true needs --set mode=continuous"
        raise UsageError(msg)
