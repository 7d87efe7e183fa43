# ruff: noqa: ARG002, N802 - the names and signatures of nvidia-ml-py
"""A stand-in for NVML with a known power curve: 100 W, and 500 W from second 10 to second 30.

It follows the names and units of nvidia-ml-py; it does not prove that a real driver tells the same.
"""

from __future__ import annotations

from types import SimpleNamespace

NVML_CLOCK_SM = 1


class NVMLError(Exception):
    """What every call raises that a GPU does not support."""


class Nvml:
    """The functions that are used, over a clock that the test moves."""

    NVMLError, NVML_CLOCK_SM = NVMLError, NVML_CLOCK_SM

    def __init__(self, *, counter: bool = True, power: bool = True, present: bool = True) -> None:
        self.now = 0.0
        self._counter, self._power, self._present = counter, power, present

    def clock(self) -> float:
        """The time by which samples are dated."""
        return self.now

    def nvmlInit(self) -> None:
        if not self._present:
            raise NVMLError

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        if index > 1:
            raise NVMLError
        return f"handle {index}"

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        return uuid

    def nvmlDeviceGetName(self, handle: str) -> bytes:
        return b"Recorded GPU"

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:
        if not self._power:
            raise NVMLError
        return 500_000 if 10 <= self.now < 30 else 100_000

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> SimpleNamespace:
        return SimpleNamespace(gpu=100 if 10 <= self.now < 30 else 0)

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> SimpleNamespace:
        return SimpleNamespace(used=8 << 30)

    def nvmlDeviceGetClockInfo(self, handle: str, kind: int) -> int:
        return 1980

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        if not self._counter:
            raise NVMLError
        busy = min(max(self.now - 10, 0), 20)
        return int((self.now * 100 + busy * 400) * 1000)
