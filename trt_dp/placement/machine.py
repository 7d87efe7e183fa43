"""What this process may use of its machine: GPUs and cores."""

from __future__ import annotations

import os

from trt_dp.errors import PlacementError
from trt_dp.placement.gpus import listed
from trt_dp.system.machine import Machine

_NONE_VISIBLE = {"", "-1", "none", "void", "NoDevFiles"}


def look() -> Machine:
    """The GPUs and cores that this process may use."""
    setting = os.environ.get("CUDA_VISIBLE_DEVICES")
    return Machine(visible(setting, listed()), usable_cores(), bus_order=setting is None)


def visible(setting: str | None, installed: list[str] | None) -> tuple[str, ...]:
    """What CUDA_VISIBLE_DEVICES leaves of the installed devices (None: unknown); an entry that is not there is refused.

    Installed devices are `GPU-...` or `MIG-...` names, each after its index where it has one: `0 GPU-...`.
    """
    if setting is None:
        return tuple(_default_name(device) for device in installed or [])
    entries = [entry.strip() for entry in setting.split(",")]
    if entries[0] in _NONE_VISIBLE:
        return ()
    seen: set[str] = set()
    for entry in entries:
        device = entry if installed is None else _device(entry, installed)
        if device in seen:
            msg = f"CUDA_VISIBLE_DEVICES names {entry!r} twice: share a GPU with --workers-per-gpu"
            raise PlacementError(msg)
        seen.add(device)
    return tuple(entries)


def usable_cores() -> tuple[int, ...]:
    """The cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def _default_name(device: str) -> str:
    return device.split(maxsplit=1)[0]


def _device(entry: str, installed: list[str]) -> str:
    """The installed device that an index means, or a UUID or its unambiguous beginning."""
    if entry.startswith("MIG-GPU-"):  # the older way to name a MIG device: GPU, instance, part
        return entry
    exact = [device for device in installed if entry in device.split()]
    begun = [device for device in installed if device.split()[-1].startswith(entry)]
    found = exact or begun
    if len(found) != 1:
        msg = f"CUDA_VISIBLE_DEVICES names {entry!r}, and this machine has {_named(installed)}"
        raise PlacementError(msg)
    return found[0]


def _named(installed: list[str]) -> str:
    return ", ".join(installed) if installed else "no GPU"
