"""What the coordinator counts while it runs: a report is made of this."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from trt_dp.report.columns import Columns, StateChange, Wasted, nothing_wasted
from trt_dp.report.energy import Consumption
from trt_dp.report.ledger import Books
from trt_dp.report.schema import Activity, Death
from trt_dp.report.sections import Environment, FailureGroup, Sitting
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
    """What was counted between the first request sent and the last answer; what is of each request, in parts."""

    serving_seconds: float
    sending: Activity
    receiving: Activity
    workers: list[WorkerCounts]
    failed: int
    redone: int
    copies: int = 0
    copies_won: int = 0
    latency: Iterable[Seconds]
    first_token: Iterable[Seconds]
    queue_wait: Iterable[Seconds]
    turnaround: Iterable[Seconds]
    deaths: list[Death] = []
    columns: Iterable[Columns] = ()
    wasted: Wasted = msgspec.field(default_factory=nothing_wasted)
    states: list[StateChange] = []


class Whole(Struct, frozen=True, kw_only=True):
    """What is known about the run besides its counts."""

    engine: str
    dataset: str
    launcher: str
    requests: int
    answered: int
    failed: int
    devices: list[list[str]]
    hosts: list[str] = []  # of each worker; empty where all are on one machine
    phases: dict[str, float]
    sorting: Activity
    wall_seconds: float
    coordinator_cpu_seconds: float
    startup_cpu_seconds: float = 0.0
    coordinator_peak_rss_bytes: int
    dropped_journal_bytes: int
    results_sha256: str = ""
    began: float = 0.0


class Story(Struct, frozen=True, kw_only=True):
    """What a report has besides its numbers."""

    began_utc: str = ""
    books: Books | None = None
    failures: list[FailureGroup] = []
    sittings: list[Sitting] = []
    environment: Environment | None = None
    consumption: Consumption | None = None
