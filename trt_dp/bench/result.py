"""A whole measurement: what was asked, of whom, and every request; what writers write."""

from __future__ import annotations

from msgspec import Struct

from trt_dp.bench.load import Load
from trt_dp.bench.record import Record
from trt_dp.bench.summary import Summary


class Served(Struct, frozen=True, kw_only=True):
    """Who was measured, and how it was asked."""

    model: str  # empty: the one that the first server has
    urls: list[str]
    api: str = "completions"  # or chat
    tokenizer: str | None = None
    body: dict[str, object] = {}  # fields added to every request


class Measurement(Struct, frozen=True, kw_only=True):
    """`began_unix_ns` is the moment from which the records count; `warmup` is not in `records`."""

    version: str
    served: Served
    load: Load
    began_unix_ns: int
    records: list[Record]
    warmup: list[Record]
    summary: Summary

    @property
    def complete(self) -> bool:
        """Whether every request ended; else a signal stopped the measurement."""
        return len(self.records) == self.load.requests
