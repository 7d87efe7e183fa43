"""How the installed vLLM differs from the names that this package uses of it, for `trt-dp doctor`."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources

import msgspec

from trt_dp.engines.trtllm import signatures
from trt_dp.engines.trtllm.differences import of_record
from trt_dp.engines.trtllm.signatures import Record
from trt_dp.engines.vllm.library import library


def compare() -> Iterator[str]:
    """How the installed vLLM differs from what is recorded of it."""
    record, version = recorded(), signatures.version_of(library().version)
    low, high = map(signatures.version_of, record.supported)
    if not low <= version < high:
        first, beyond = record.supported
        yield f"vLLM {version[0]}.{version[1]} was never looked at, only {first} and later, before {beyond}"
    yield from of_record(record, version)


def recorded() -> Record:
    """What is known about vLLM, from the data next to this file."""
    file = resources.files(__package__) / "signatures.json"
    return msgspec.json.decode(file.read_bytes(), type=Record)
