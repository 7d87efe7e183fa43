"""What a run's numbers mean: `summarise` turns counts into a Report; names are trtllm-bench's where it has them."""

from __future__ import annotations

import numpy as np
from msgspec import Struct, structs
from numpy.typing import NDArray

from trt_dp.types import Facts

SCHEMA_VERSION = 1
PHASES = ("index", "start", "load", "feed", "drain", "sort", "stop")

Seconds = NDArray[np.float32]


class Activity(Struct, frozen=True):
    """Sending, receiving or sorting: from its first start to its last end, and the seconds spent in it."""

    requests: int
    span_seconds: float
    busy_seconds: float
    requests_per_second: float


class WorkerCounts(Struct, frozen=True):
    """One worker's part, as counted."""

    requests: int
    input_tokens: int
    output_tokens: int
    load_seconds: float
    idle_seconds: float
    deaths: int
    facts: Facts = {}


class Death(Struct, frozen=True):
    """A worker's death, by the coordinator's clock."""

    worker: int
    reason: str
    at_seconds: float
    requests: int
    back_after_seconds: float | None = None


class Counts(Struct, frozen=True):
    """What was counted between the first send and the last answer; durations are sorted."""

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


class Whole(Struct, frozen=True):
    """What is known of the run beside its counts."""

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
    startup_cpu_seconds: float
    coordinator_peak_rss_bytes: int
    dropped_journal_bytes: int
    results_sha256: str = ""
    began: float = 0.0


class Percentiles(Struct, frozen=True):
    """Milliseconds; pXX is sorted[int(n * XX / 100)], trtllm-bench's rule."""

    p50: float = 0.0
    p90: float = 0.0
    p95: float = 0.0
    p99: float = 0.0
    minimum: float = 0.0
    maximum: float = 0.0
    average: float = 0.0


class Requests(Struct, frozen=True):
    """How many, and what became of them."""

    total: int
    answered: int
    failed: int
    answered_now: int
    failed_now: int
    redone: int


class Performance(Struct, frozen=True):
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


class Worker(Struct, frozen=True):
    """One worker's part."""

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


class Coordinator(Struct, frozen=True):
    """What trt-dp itself cost."""

    cpu_seconds: float
    startup_cpu_seconds: float
    cpu_us_per_request: float
    peak_rss_bytes: int


class Report(Struct, frozen=True):
    """The value of a run: report.json."""

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


def summarise(whole: Whole, counts: Counts) -> Report:
    """The report of one session of a run."""
    answered_now = sum(worker.requests for worker in counts.workers)
    handled = answered_now + counts.failed
    return Report(
        schema_version=SCHEMA_VERSION,
        engine=whole.engine,
        dataset=whole.dataset,
        launcher=whole.launcher,
        began_monotonic_seconds=whole.began,
        wall_seconds=whole.wall_seconds,
        phases_seconds=whole.phases,
        requests=Requests(
            whole.requests,
            whole.answered,
            whole.failed,
            answered_now,
            counts.failed,
            counts.redone,
        ),
        sending=counts.sending,
        receiving=counts.receiving,
        sorting=whole.sorting,
        performance=_performance(whole, counts, answered_now),
        workers=_workers(whole, counts, answered_now),
        deaths=[_since(whole.began, death) for death in counts.deaths],
        coordinator=Coordinator(
            cpu_seconds=whole.coordinator_cpu_seconds,
            startup_cpu_seconds=whole.startup_cpu_seconds,
            cpu_us_per_request=_per(
                (whole.coordinator_cpu_seconds - whole.startup_cpu_seconds) * 1e6, handled
            ),
            peak_rss_bytes=whole.coordinator_peak_rss_bytes,
        ),
        dropped_journal_bytes=whole.dropped_journal_bytes,
        results_sha256=whole.results_sha256,
        definitions=DEFINITIONS,
    )


def percentiles(seconds: Seconds) -> Percentiles:
    """Of sorted durations, in milliseconds."""
    if not len(seconds):
        return Percentiles()
    p50, p90, p95, p99 = (_ms(seconds[int(len(seconds) * q)]) for q in (0.5, 0.9, 0.95, 0.99))
    average = _ms(float(seconds.mean(dtype=np.float64)))
    return Percentiles(p50, p90, p95, p99, _ms(seconds[0]), _ms(seconds[-1]), average)


def _performance(whole: Whole, counts: Counts, answered: int) -> Performance:
    seconds = counts.serving_seconds
    inputs = sum(worker.input_tokens for worker in counts.workers)
    outputs = sum(worker.output_tokens for worker in counts.workers)
    gpus = len({device for devices in whole.devices for device in devices})
    latency = percentiles(counts.latency)
    return Performance(
        total_latency_ms=seconds * 1e3,
        request_throughput_req_s=_per(answered, seconds),
        system_input_throughput_tok_s=_per(inputs, seconds),
        system_output_throughput_tok_s=_per(outputs, seconds),
        system_total_throughput_tok_s=_per(inputs + outputs, seconds),
        output_throughput_per_worker_tok_s=_per(outputs, seconds * len(counts.workers)),
        output_throughput_per_gpu_tok_s=_per(outputs, seconds * gpus) if gpus else None,
        avg_request_latency_ms=latency.average,
        request_latency_percentiles_ms=latency,
        ttft_percentiles_ms=percentiles(counts.first_token),
        queue_wait_percentiles_ms=percentiles(counts.queue_wait),
        turnaround_percentiles_ms=percentiles(counts.turnaround),
    )


def _workers(whole: Whole, counts: Counts, answered: int) -> list[Worker]:
    return [
        Worker(
            number,
            devices,
            mine.requests,
            _per(mine.requests, answered),
            mine.input_tokens,
            mine.output_tokens,
            _per(mine.output_tokens, counts.serving_seconds),
            mine.load_seconds,
            mine.idle_seconds,
            mine.deaths,
            mine.facts,
        )
        for number, (devices, mine) in enumerate(zip(whole.devices, counts.workers, strict=True))
    ]


def _since(began: float, death: Death) -> Death:
    return structs.replace(death, at_seconds=death.at_seconds - began)


def _per(amount: float, of: float) -> float:
    return amount / of if of else 0.0


def _ms(seconds: float) -> float:
    return round(float(seconds) * 1e3, 3)


DEFINITIONS = {
    "schema_version": "the version of this file's layout",
    "engine": "the engine's name",
    "dataset": "the file of requests",
    "launcher": "what started the workers",
    "began_monotonic_seconds": "the start of the run by this machine's monotonic clock, as other programs read it too",
    "wall_seconds": "from the start of the run to the last worker's end; the phases sum to it",
    "phases_seconds": "the run in consecutive parts",
    "phases_seconds.index": "checking and indexing the dataset, or loading the cached index; opening the run folder",
    "phases_seconds.start": "from starting the workers until the first connected",
    "phases_seconds.load": "from then until the first engine was loaded",
    "phases_seconds.feed": "from then until the last request was sent to a worker",
    "phases_seconds.drain": "from then until the last request was completed",
    "phases_seconds.sort": "writing the results in input order",
    "phases_seconds.stop": "from then until every worker had ended",
    "requests.total": "requests in the dataset",
    "requests.answered": "requests with an answer, from this session or an earlier one",
    "requests.failed": "requests with a reason instead of an answer, likewise",
    "requests.answered_now": "requests answered in this session",
    "requests.failed_now": "requests that failed in this session",
    "requests.redone": "times a request went back to the queue because its worker died",
    "sending": "choosing requests and writing them to the workers' sockets",
    "receiving": "reading answers from the sockets and appending them to the journal",
    "sorting": "writing the results in input order",
    "*.requests": "how many requests it was done for",
    "*.span_seconds": "from the first time it began to the last time it ended",
    "*.busy_seconds": "the coordinator's time spent in it",
    "*.requests_per_second": "requests / span_seconds",
    "performance.total_latency_ms": "from the first request sent to the last answer received (loading is not in it)",
    "performance.request_throughput_req_s": "answered requests / total latency",
    "performance.system_input_throughput_tok_s": "their input tokens / total latency",
    "performance.system_output_throughput_tok_s": "their output tokens / total latency",
    "performance.system_total_throughput_tok_s": "their input and output tokens / total latency",
    "performance.output_throughput_per_worker_tok_s": "output throughput / number of workers",
    "performance.output_throughput_per_gpu_tok_s": "output throughput / number of GPUs in use; none without GPUs",
    "performance.avg_request_latency_ms": "mean of the request latencies",
    "performance.request_latency_percentiles_ms": "worker's clock: from reading a request to its whole answer",
    "performance.ttft_percentiles_ms": "worker's clock: from reading a request to its first token (or whole answer)",
    "performance.queue_wait_percentiles_ms": "worker's clock: from reading a request to the engine's starting on it",
    "performance.turnaround_percentiles_ms": "coordinator's clock: from sending a request to its answer in the journal",
    "workers.worker": "its number",
    "workers.devices": "the GPUs it was confined to",
    "workers.requests": "requests it answered",
    "workers.share": "its part of all requests answered in this session",
    "workers.input_tokens": "tokens of the prompts it answered",
    "workers.output_tokens": "tokens it generated",
    "workers.output_throughput_tok_s": "its output tokens / total latency",
    "workers.load_seconds": "its last loading of the engine, by its own clock",
    "workers.idle_seconds": "time it was ready and held no request, up to the last answer of the run",
    "workers.deaths": "how often it died",
    "workers.facts": "what its engine said of itself when it was last asked",
    "deaths.worker": "each worker that died in this session, in the order of their deaths: its number",
    "deaths.reason": "what it died of",
    "deaths.at_seconds": "when the coordinator had noticed it, since the run began",
    "deaths.requests": "requests it held: they run again, when nothing else waits",
    "deaths.back_after_seconds": "from then until its successor was sent requests; null if it never was",
    "coordinator.cpu_seconds": "user and system time of the coordinator process",
    "coordinator.startup_cpu_seconds": "its part before the first engine was loaded; all of it where none was",
    "coordinator.cpu_us_per_request": "cpu_seconds without startup_cpu_seconds / requests handled in this session",
    "coordinator.peak_rss_bytes": "its largest resident memory",
    "dropped_journal_bytes": "bytes of a torn journal end, left by a crash and dropped when this session began",
    "results_sha256": "of results.jsonl without `worker` and `timing`, as it is under --no-timing",
}
