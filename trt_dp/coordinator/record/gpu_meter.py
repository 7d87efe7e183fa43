"""Samples power, use, memory and clock of GPUs once a second, in a thread of its own, by NVIDIA's library NVML."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Sequence
from time import perf_counter
from types import TracebackType
from typing import Any

import numpy as np
from typing_extensions import Self

from trt_dp.report.energy import GpuSamples

_EVERY_SECONDS = 1.0
_PATIENCE_SECONDS = 5.0


class GpuMeter:
    """Samples these GPUs while it is open; without NVML, or for a GPU that it does not know, nothing is sampled."""

    def __init__(
        self, devices: Sequence[str], nvml: Any = None, clock: Callable[[], float] = perf_counter
    ) -> None:
        self._nvml = nvml or find_nvml()
        self._clock = clock
        self._gpus: list[_Gpu] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        if devices and self._nvml is not None:
            self._gpus = self._open(devices)

    def __enter__(self) -> Self:
        """Begin to sample."""
        if self._gpus:
            self._thread = threading.Thread(target=self._sample_on, daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take a last sample, and stop."""
        self._stop.set()
        if self._thread:
            self._thread.join(_PATIENCE_SECONDS)

    def sample(self) -> None:
        """Look at every GPU once."""
        for gpu in self._gpus:
            gpu.look(self._nvml, self._clock())

    def samples(self) -> list[GpuSamples]:
        """What was seen; a GPU that told nothing is not in it."""
        return [gpu.samples() for gpu in self._gpus if gpu.rows]

    def _sample_on(self) -> None:
        while True:
            self.sample()
            if self._stop.wait(_EVERY_SECONDS):
                self.sample()
                return

    def _open(self, devices: Sequence[str]) -> list[_Gpu]:
        try:
            self._nvml.nvmlInit()
        except self._nvml.NVMLError:
            return []
        found = (_open_gpu(self._nvml, device) for device in devices)
        return [gpu for gpu in found if gpu is not None]


class _Gpu:
    """One GPU and its samples: (time, watts, utilisation, memory, clock, joules counted)."""

    def __init__(self, device: str, name: str, handle: Any) -> None:
        self.device, self.name, self.handle = device, name, handle
        self.rows: list[tuple[float, float, float, float, float, float]] = []

    def look(self, nvml: Any, now: float) -> None:
        row = tuple(_told(nvml, read, self.handle) for read in _READINGS)
        if not np.isnan(row).all():
            self.rows.append((now, *row))  # type: ignore[arg-type]

    def samples(self) -> GpuSamples:
        at, watts, used, memory, clock, joules = np.array(self.rows).T
        counted = float(joules[-1] - joules[0])
        return GpuSamples(
            device=self.device,
            name=self.name,
            at=at,
            watts=watts,
            utilisation=used,
            memory_bytes=memory,
            clock_mhz=clock,
            counted_joules=counted if counted > 0 else None,
        )


_READINGS: tuple[Callable[[Any, Any], float], ...] = (
    lambda nvml, gpu: nvml.nvmlDeviceGetPowerUsage(gpu) / 1e3,
    lambda nvml, gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100,
    lambda nvml, gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).used,
    lambda nvml, gpu: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_SM),
    lambda nvml, gpu: nvml.nvmlDeviceGetTotalEnergyConsumption(gpu) / 1e3,
)


def find_nvml() -> Any:
    """NVIDIA's library where nvidia-ml-py is installed, else None."""
    try:
        return importlib.import_module("pynvml")
    except ImportError:
        return None


def _told(nvml: Any, read: Callable[[Any, Any], float], handle: Any) -> float:
    """A reading; NaN where this GPU does not tell it."""
    try:
        return float(read(nvml, handle))
    except nvml.NVMLError:
        return float("nan")


def _open_gpu(nvml: Any, device: str) -> _Gpu | None:
    """A GPU by its index or its UUID, as CUDA_VISIBLE_DEVICES names it; None if NVML does not know it."""
    try:
        if device.isdigit():
            handle = nvml.nvmlDeviceGetHandleByIndex(int(device))
        else:
            handle = nvml.nvmlDeviceGetHandleByUUID(device)
        name = nvml.nvmlDeviceGetName(handle)
    except nvml.NVMLError:
        return None
    return _Gpu(device, name if isinstance(name, str) else name.decode(), handle)
