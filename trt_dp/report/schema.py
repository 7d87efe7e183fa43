"""The contents of report.json. Names are those of trtllm-bench where it has them."""

from __future__ import annotations

from msgspec import Struct

from trt_dp.report.sections import (
    Energy,
    Environment,
    FailureGroup,
    Histogram,
    Host,
    Ledger,
    Losses,
    Sitting,
    Timeline,
)
from trt_dp.types import Facts

SCHEMA_VERSION = 2
PHASES = ("index", "start", "load", "feed", "drain", "sort", "stop")


class Activity(Struct, frozen=True):
    """Sending, receiving or sorting: the time from its first start to its last end, and the time spent in it."""

    requests: int
    span_seconds: float
    busy_seconds: float
    requests_per_second: float


class Death(Struct, frozen=True):
    """The death of a worker, by the coordinator's clock."""

    worker: int
    reason: str
    at_seconds: float
    requests: int
    back_after_seconds: float | None = None


class Percentiles(Struct, frozen=True, kw_only=True):
    """Milliseconds of `count` values; pXX is sorted[int(count * XX / 100)], as in trtllm-bench."""

    p50: float = 0.0
    p90: float = 0.0
    p95: float = 0.0
    p99: float = 0.0
    minimum: float = 0.0
    maximum: float = 0.0
    average: float = 0.0
    count: int = 0


class Requests(Struct, frozen=True, kw_only=True):
    """How many requests there are, and how many were answered or failed."""

    total: int
    answered: int
    failed: int
    answered_now: int
    failed_now: int
    redone: int
    copies: int = 0
    copies_won: int = 0


class Performance(Struct, frozen=True, kw_only=True):
    """Throughput and latency of the requests answered in this session."""

    total_latency_ms: float
    request_throughput_req_s: float
    system_input_throughput_tok_s: float
    system_output_throughput_tok_s: float
    system_total_throughput_tok_s: float
    output_throughput_per_worker_tok_s: float
    output_throughput_per_gpu_tok_s: float | None
    avg_request_latency_ms: float
    request_latency_percentiles_ms: Percentiles
    ttft_percentiles_ms: Percentiles
    queue_wait_percentiles_ms: Percentiles
    turnaround_percentiles_ms: Percentiles


class Worker(Struct, frozen=True, kw_only=True):
    """What one worker did."""

    worker: int
    devices: list[str]
    requests: int
    share: float
    input_tokens: int
    output_tokens: int
    output_throughput_tok_s: float
    load_seconds: float
    idle_seconds: float
    deaths: int
    facts: Facts = {}
    host: str = ""


class Coordinator(Struct, frozen=True, kw_only=True):
    """What trt-dp itself cost."""

    cpu_seconds: float
    startup_cpu_seconds: float = 0.0
    cpu_us_per_request: float
    peak_rss_bytes: int


class Report(Struct, frozen=True, kw_only=True):
    """The content of report.json."""

    schema_version: int
    engine: str
    dataset: str
    launcher: str
    began_monotonic_seconds: float
    wall_seconds: float
    phases_seconds: dict[str, float]
    requests: Requests
    sending: Activity
    receiving: Activity
    sorting: Activity
    performance: Performance
    workers: list[Worker]
    deaths: list[Death]
    coordinator: Coordinator
    dropped_journal_bytes: int
    results_sha256: str
    definitions: dict[str, str]
    began_utc: str = ""
    losses: Losses | None = None
    ledger: Ledger | None = None
    timeline: Timeline | None = None
    tail: Timeline | None = None
    histograms: dict[str, Histogram] = {}
    failures: list[FailureGroup] = []
    sittings: list[Sitting] = []
    environment: Environment | None = None
    energy: Energy | None = None
    hosts: list[Host] = []
