"""Writes a measurement into a folder, in every format."""

from __future__ import annotations

from pathlib import Path

from trt_dp.bench.result import Measurement
from trt_dp.bench.writers import aiperf, llmperf, native, trtllm_bench, vllm
from trt_dp.errors import WriteError
from trt_dp.system.safe_files import atomic_write

FORMATS = (native, llmperf, aiperf, vllm, trtllm_bench)


def save(found: Measurement, folder: Path) -> list[Path]:
    """The files written, each whole; the folder is made where it is missing."""
    written = []
    for form in FORMATS:
        for name, content in form.files(found).items():
            path = folder / name
            write(path, content)
            written.append(path)
    return written


def write(path: Path, content: bytes) -> None:
    """Write one file whole, with the folders above it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write(content)
    except OSError as error:
        msg = f"cannot write {path}: {error.strerror}. Choose another --results-dir"
        raise WriteError(msg) from error
