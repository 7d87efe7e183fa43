"""Checks what a worker sends before it is used."""

from __future__ import annotations

import numpy as np

from trt_dp.coordinator.order.contract import Indices
from trt_dp.coordinator.queue.dispatcher import Stray
from trt_dp.types import END_OF_LINE, RECORD, Records
from trt_dp.wire.messages import Done, GivenBack

_NEWLINE = ord("\n")


def checked(worker: int, done: Done) -> Records:
    """The records of answers; raises ValueError unless they describe just these lines, each whole and ended."""
    records = np.frombuffer(done.records, RECORD)
    lengths = records["length"]
    ends = np.cumsum(lengths, dtype=np.int64)
    whole = len(records) > 0 and int(lengths.min()) > 0 and int(ends[-1]) == len(done.lines)
    if not whole or done.lines.count(b"\n") != len(records):
        msg = f"worker {worker} sent lines that do not match its records"
        raise Stray(msg)
    if not (np.frombuffer(done.lines, np.uint8)[ends - 1] == _NEWLINE).all():
        msg = f"worker {worker} sent lines whose ends do not match its records"
        raise Stray(msg)
    if not _plausible(records):
        msg = f"worker {worker} sent counts that are out of range"
        raise Stray(msg)
    return records


def without(done: Done, records: Records, dropped: list[bool]) -> tuple[Records, bytes]:
    """The records and lines of these answers, but for those that are dropped."""
    ends = np.cumsum(records["length"], dtype=np.int64).tolist()
    starts = [0, *ends[:-1]]
    places = zip(starts, ends, dropped, strict=True)
    lines = b"".join(done.lines[start:end] for start, end, drop in places if not drop)
    return records[~np.array(dropped, np.bool_)], lines


def returned(worker: int, message: GivenBack) -> Indices:
    """The requests that a worker gives back; raises ValueError unless there are some."""
    if not message.indices or len(message.indices) % 8:
        msg = f"worker {worker} gave back something that is no list of requests"
        raise Stray(msg)
    return np.frombuffer(message.indices, np.int64)


def _plausible(records: Records) -> bool:
    counted = records["input_tokens"].min() >= 0 and records["output_tokens"].min() >= 0
    within = records["timing_length"] <= records["length"] - len(END_OF_LINE)
    return counted and bool(within.all()) and int(records["failed"].view(np.uint8).max()) <= 1
