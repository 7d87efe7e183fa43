"""trt-dp's own files: `bench.json` with all numbers and their definitions, and `requests.jsonl` with every request."""

from __future__ import annotations

import msgspec

from trt_dp.bench.result import Measurement
from trt_dp.bench.summary import DEFINITIONS
from trt_dp.bench.writers.text import pretty


def files(found: Measurement) -> dict[str, bytes]:
    """Two files."""
    told = {
        "version": found.version,
        "served": found.served,
        "load": found.load,
        "complete": found.complete,
        "began_unix_ns": found.began_unix_ns,
        "summary": found.summary,
        "definitions": DEFINITIONS,
    }
    lines = (msgspec.json.encode(record) + b"\n" for record in found.records)
    return {"bench.json": pretty(told), "requests.jsonl": b"".join(lines)}
