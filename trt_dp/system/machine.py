"""What a machine has for workers; light enough for a command's help."""

from __future__ import annotations

from msgspec import Struct


class Machine(Struct, frozen=True):
    """What a process may use: GPUs as CUDA_VISIBLE_DEVICES names them, and cores by number."""

    gpus: tuple[str, ...]
    cores: tuple[int, ...]
    bus_order: bool = False  # the GPUs are numbered by nvidia-smi, not by the user's own setting
