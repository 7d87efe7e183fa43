"""What report.json has besides its totals: timelines, distributions, losses, the ledger, sittings, failures."""

from __future__ import annotations

from msgspec import Struct

from trt_dp.types import Facts


class Span(Struct, frozen=True):
    """A worker was in one state from here to there, in seconds since the run began."""

    state: str
    start: float
    end: float


class Lane(Struct, frozen=True, kw_only=True):
    """One worker over time: its states, and per interval its tokens per second, and requests that ran."""

    worker: int
    states: list[Span]
    tokens_per_second: list[float]
    running: list[float]


class Timeline(Struct, frozen=True, kw_only=True):
    """Workers over time, in intervals of equal length; seconds since the run began."""

    start_seconds: float
    interval_seconds: float
    lanes: list[Lane]
    completed_per_second: list[float]
    pending: list[int]


class Histogram(Struct, frozen=True, kw_only=True):
    """How many values lie between neighbouring edges; the last edge belongs to the last count."""

    unit: str
    edges: list[float]
    counts: list[int]


class Part(Struct, frozen=True, kw_only=True):
    """One cause of lost time: seconds of the run, averaged over workers by their speed."""

    cause: str
    seconds: float
    share: float


class Losses(Struct, frozen=True, kw_only=True):
    """The time between this run and the least it could have taken, by cause; the parts sum to `lost_seconds`."""

    wall_seconds: float
    bound_seconds: float
    bound_by: str
    lost_seconds: float
    efficiency: float
    full_batch: float
    full_speed_tok_s: list[float]
    parts: list[Part]
    advice: str


class Account(Struct, frozen=True, kw_only=True):
    """Requests and their input tokens that went one way."""

    requests: int = 0
    input_tokens: int = 0


class WorkerLedger(Struct, frozen=True, kw_only=True):
    """What one worker was sent, and what became of it."""

    worker: int
    sent: Account
    answered: Account
    failed: Account
    lost: Account


class Ledger(Struct, frozen=True, kw_only=True):
    """Every request accounted for: submitted + resent = sent + never sent; sent = answered + failed + lost."""

    submitted: Account
    sent: Account
    resent: Account
    never_sent: Account
    answered: Account
    failed: Account
    lost: Account
    journal_answered: int
    journal_failed: int
    workers: list[WorkerLedger]
    errors: list[str]


class Host(Struct, frozen=True, kw_only=True):
    """What one host of several contributed: the sums over its workers."""

    host: str
    workers: int
    requests: int
    share: float
    output_tokens: int
    output_throughput_tok_s: float
    load_seconds: float
    deaths: int


class Sitting(Struct, frozen=True, kw_only=True):
    """One time that the command worked on this run."""

    began_utc: str
    seconds: float | None
    completed: int | None
    deaths: int
    ended: str


class FailureGroup(Struct, frozen=True, kw_only=True):
    """Requests that failed for the same reason, numbers in it aside."""

    kind: str
    message: str
    requests: int
    examples: list[str]


class Gpu(Struct, frozen=True, kw_only=True):
    """One GPU over time: intervals as in the timeline, null where it was not measured."""

    device: str
    name: str
    energy_joules: float
    average_watts: float
    average_utilisation: float | None
    peak_memory_bytes: int | None
    idle_tail_joules: float
    watts: list[float | None]
    utilisation: list[float | None]
    memory_bytes: list[float | None]
    clock_mhz: list[float | None]


class Energy(Struct, frozen=True, kw_only=True):
    """What all GPUs of the run used; `cost` is there if a price was given."""

    gpus: list[Gpu]
    joules: float | None
    joules_per_output_token: float | None
    idle_tail_joules: float | None
    gpu_hours: float
    cost: float | None


class Environment(Struct, frozen=True, kw_only=True):
    """Where and how the run was made."""

    versions: dict[str, str] = {}
    machine: dict[str, str] = {}
    options: Facts = {}
