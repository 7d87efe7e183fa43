"""What NVIDIA's library NVML tells of the GPUs, by ctypes, so that no package is needed."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

_NAME_BYTES = 96
_MOST_PROCESSES = 1024


class _Memory(ctypes.Structure):
    _fields_ = [(name, ctypes.c_ulonglong) for name in ("total", "free", "used")]


class _Process(ctypes.Structure):
    _fields_ = [
        ("pid", ctypes.c_uint),
        ("used", ctypes.c_ulonglong),
        ("instance", ctypes.c_uint),
        ("compute", ctypes.c_uint),
    ]


@dataclass
class Gpu:
    """A GPU by its number in PCI order, as nvidia-smi numbers it."""

    number: int
    handle: ctypes.c_void_p
    name: str
    uuid: str


class Nvml:
    """The GPUs of this machine; `gpus` is empty where NVML is missing."""

    def __init__(self) -> None:
        self.gpus: list[Gpu] = []
        try:
            self._library = ctypes.CDLL("libnvidia-ml.so.1")
        except OSError:
            return
        if self._library.nvmlInit_v2() == 0:
            count = ctypes.c_uint()
            self._library.nvmlDeviceGetCount_v2(ctypes.byref(count))
            self.gpus = [self._open(number) for number in range(count.value)]

    def joules(self, gpu: Gpu) -> float | None:
        """The GPU's own counter of energy."""
        value = ctypes.c_ulonglong()
        said = self._library.nvmlDeviceGetTotalEnergyConsumption(gpu.handle, ctypes.byref(value))
        return None if said else value.value / 1000

    def used_bytes(self, gpu: Gpu) -> int:
        """Memory in use, whoever uses it."""
        memory = _Memory()
        self._library.nvmlDeviceGetMemoryInfo(gpu.handle, ctypes.byref(memory))
        return int(memory.used)

    def processes(self, gpu: Gpu) -> set[int]:
        """Those that compute on it; in a container the numbers may be those outside of it."""
        count, found = ctypes.c_uint(_MOST_PROCESSES), (_Process * _MOST_PROCESSES)()
        said = self._library.nvmlDeviceGetComputeRunningProcesses_v3(
            gpu.handle, ctypes.byref(count), found
        )
        return set() if said else {found[n].pid for n in range(count.value)}

    def _open(self, number: int) -> Gpu:
        handle = ctypes.c_void_p()
        self._library.nvmlDeviceGetHandleByIndex_v2(number, ctypes.byref(handle))
        texts = []
        for ask in (self._library.nvmlDeviceGetName, self._library.nvmlDeviceGetUUID):
            text = ctypes.create_string_buffer(_NAME_BYTES)
            ask(handle, text, _NAME_BYTES)
            texts.append(text.value.decode())
        return Gpu(number, handle, *texts)
