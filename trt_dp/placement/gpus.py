"""What nvidia-smi says about the GPUs of this machine; the only file that runs it."""

from __future__ import annotations

import re
import shutil
import subprocess

from msgspec import Struct

_ASK_SECONDS = 30
_FIELDS = {  # of Gpu, by nvidia-smi's names
    "index": "index",
    "uuid": "uuid",
    "name": "name",
    "memory_mib": "memory.total",
    "driver": "driver_version",
    "mig": "mig.mode.current",
}


class Gpu(Struct, frozen=True):
    """A GPU as nvidia-smi describes it."""

    index: str
    uuid: str
    name: str
    memory_mib: str
    driver: str
    mig: str


def listed() -> list[str] | None:
    """The names of the devices; None where nvidia-smi is missing or fails."""
    listing = _ask("-L")
    return None if listing is None else parse_listing(listing)


def describe() -> list[Gpu]:
    """All GPUs; none where nvidia-smi is missing or fails."""
    rows = _query(*_FIELDS.values())
    return [Gpu(**dict(zip(_FIELDS, row, strict=True))) for row in rows if len(row) == len(_FIELDS)]


def names_and_drivers() -> list[str]:
    """Name and driver of each GPU, in one text; none where nvidia-smi is missing or fails."""
    return [", ".join(row) for row in _query("name", "driver_version")]


def parse_listing(listing: str) -> list[str]:
    """`nvidia-smi -L` as device names: a GPU that is split into MIG devices is named by those."""
    devices: list[str] = []
    whole = ""
    for line in listing.splitlines():
        if match := re.match(r"GPU (\d+): .*\(UUID: (GPU-[^)]+)\)", line):
            whole = f"{match[1]} {match[2]}"
            devices.append(whole)
        elif match := re.search(r"\(UUID: (MIG-[^)]+)\)", line):
            devices = [device for device in devices if device != whole]
            devices.append(match[1])
    return devices


def _query(*fields: str) -> list[list[str]]:
    said = _ask(f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits") or ""
    return [[cell.strip() for cell in line.split(",")] for line in said.splitlines()]


def _ask(*words: str) -> str | None:
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    try:
        return subprocess.run(
            [program, *words], capture_output=True, text=True, timeout=_ASK_SECONDS, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
