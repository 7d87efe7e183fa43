"""How much memory the KV cache of one worker may take, given that others run next to it."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)


def cache_share(cores: int, weight_bytes: int) -> int:
    """Half of what is left for this many of the machine's cores once the weights are there twice.

    Twice, because OpenVINO keeps a repacked copy; half, because activations and the system want
    some too. It is a bound, not a need: memory is taken as the cache fills.
    """
    part = min(1.0, cores / (os.cpu_count() or 1))
    return max(0, int(available_bytes() * part) - 2 * weight_bytes) // 2


def available_bytes() -> int:
    """Bytes that this process could have: of the machine, and of its control group."""
    return min([_machine(), *_groups()])


def _machine() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2  # no Linux: a guess


def _groups() -> list[int]:
    return [int(limit) - int(used) for limit, used in map(_read, _CGROUP) if limit.isdigit()]


def _read(files: tuple[str, str]) -> tuple[str, str]:
    try:
        limit, used = (Path(file).read_text().strip() for file in files)
    except OSError:
        return "", ""  # no such control group
    return limit, used
