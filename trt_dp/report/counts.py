"""What the coordinator counts while it runs: a report is made of this."""

from __future__ import annotations

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from trt_dp.report.schema import Activity, Death
from trt_dp.types import Facts

Seconds = NDArray[np.float32]


class WorkerCounts(Struct, frozen=True):
    """What was counted for one worker."""

    requests: int
    input_tokens: int
    output_tokens: int
    load_seconds: float
    idle_seconds: float
    deaths: int
    facts: Facts = {}


class Counts(Struct, frozen=True, kw_only=True):
    """What was counted between the first request sent and the last answer; durations are sorted."""

    serving_seconds: float
    sending: Activity
    receiving: Activity
    workers: list[WorkerCounts]
    failed: int
    redone: int
    latency: Seconds
    first_token: Seconds
    queue_wait: Seconds
    turnaround: Seconds
    deaths: list[Death] = []


class Whole(Struct, frozen=True, kw_only=True):
    """What is known of the run besides its counts."""

    engine: str
    dataset: str
    launcher: str
    requests: int
    answered: int
    failed: int
    devices: list[list[str]]
    phases: dict[str, float]
    sorting: Activity
    wall_seconds: float
    coordinator_cpu_seconds: float
    startup_cpu_seconds: float = 0.0
    coordinator_peak_rss_bytes: int
    dropped_journal_bytes: int
    results_sha256: str = ""
    began: float = 0.0
