"""What a run is asked to do, and who watches it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from trt_dp.coordinator.order.choose import check_name
from trt_dp.coordinator.record.lane import Lane
from trt_dp.coordinator.workers.limits import Limits
from trt_dp.dataset.reading import Reading
from trt_dp.errors import UsageError
from trt_dp.system.ranges import check_least
from trt_dp.types import Defaults, EngineSpec, Sampling


class Job(Struct, frozen=True):
    """All that a run can be asked to do."""

    dataset: Path | Reading
    folder: Path
    engine: EngineSpec
    workers: int | None = None
    gpus_per_worker: int | None = None
    workers_per_gpu: int = 1
    launcher: str = "local"
    launcher_options: dict[str, str] = {}
    address: str | None = None  # where this machine listens for its hosts
    port: int = 0
    fresh: bool = False
    skip_bad: bool = False
    timing: bool = True
    defaults: Defaults = Defaults()
    detokenize: bool = False  # answers to ids too
    keep_special_tokens: bool = False
    output_format: str | None = None
    price_per_gpu_hour: float | None = None
    limits: Limits = Limits()
    grace_seconds: float = 30.0
    order: str = "auto"
    lengths_from: Path | None = None
    speculate: bool = False  # copies of the last requests in idle workers


def check(job: Job) -> None:
    """Raises UsageError for a limit or a sampling setting that is out of range."""
    limits, defaults, sampling = job.limits, job.defaults, job.defaults.sampling
    check_least(
        (
            ("--stall-seconds", limits.stall_seconds, 0.1),
            ("--start-seconds", limits.start_seconds, 0.1),
            ("--load-seconds", limits.load_seconds, 0.1),
            ("--answer-seconds", limits.answer_seconds, 0.1),
            ("--paused-seconds", limits.paused_seconds, 0.1),
            ("--price-per-gpu-hour", job.price_per_gpu_hour or 0.0, 0.0),
            ("--grace-seconds", job.grace_seconds, 0.0),
            ("--max-restarts", limits.max_restarts, 0),
            ("--host-seconds", limits.host_seconds, 0.1),
            ("--min-workers", limits.min_workers, 1),
            ("--port", job.port, 0),
            ("--temperature", sampling.temperature, 0.0),
            ("--top-k", sampling.top_k, 0),
            ("--seed", sampling.seed, 0),
            ("--min-p", sampling.min_p, 0.0),
            ("--min-tokens", sampling.min_tokens, 0),
            ("--max-tokens", 1 if defaults.max_tokens is None else defaults.max_tokens, 1),
            ("--presence-penalty", sampling.presence_penalty, -2.0),
            ("--frequency-penalty", sampling.frequency_penalty, -2.0),
        )
    )
    _check_sampling(sampling)
    check_name(job.order)
    _check_lengths(defaults)
    if job.lengths_from is not None and job.order == "file":
        msg = "--lengths-from has no effect with --order file: remove one of them"
        raise UsageError(msg)


def _check_sampling(sampling: Sampling) -> None:
    wrong = {
        f"--top-p is {sampling.top_p}: it must be above 0 and at most 1": not 0
        < sampling.top_p
        <= 1,
        f"--min-p is {sampling.min_p}: it must be at most 1": sampling.min_p > 1,
        "--temperature must be a finite number": math.isinf(sampling.temperature),
        f"--repetition-penalty is {sampling.repetition_penalty}: it must be above 0": not (
            0 < sampling.repetition_penalty < math.inf
        ),
        "--presence-penalty and --frequency-penalty must be at most 2": not (
            sampling.presence_penalty <= 2 and sampling.frequency_penalty <= 2
        ),
        "--stop is empty: give the words that end an answer": "" in sampling.stop,
        "--stop-token-ids must not be negative": any(one < 0 for one in sampling.stop_token_ids),
    }
    for msg, is_so in wrong.items():
        if is_so:
            raise UsageError(msg)


def _check_lengths(defaults: Defaults) -> None:
    least, most = defaults.sampling.min_tokens, defaults.max_tokens
    if most is not None and least > most:
        msg = f"--min-tokens is {least} and --max-tokens {most}: raise one or lower the other"
        raise UsageError(msg)
    if defaults.stop_at_eos and defaults.sampling.ignore_eos:
        msg = "--stop-at-eos and --ignore-eos contradict each other: remove one"
        raise UsageError(msg)


class Snapshot(Struct, frozen=True, kw_only=True):
    """The progress of a run.

    `wanted_tokens` are the output tokens that the requests of this sitting ask for, `wanted_done` those of the
    completed ones. `seconds` count from the start of the run, `serving_seconds` from the first request sent,
    and `left_seconds` is how long the rest will probably take.
    """

    requests: int
    completed: int
    failed: int
    output_tokens: int
    workers: int
    ready: int
    deaths: int
    wanted_tokens: int = 0
    wanted_done: int = 0
    seconds: float = 0.0
    serving_seconds: float = 0.0
    left_seconds: float | None = None
    lanes: Sequence[Lane] = ()


class Display(Protocol):
    """Who watches a run: hears of its phases, of what happens, and often how far it is."""

    def say(self, text: str) -> None:
        """Something happened that a user should know."""

    def indexing(self, done: int, total: int) -> None:
        """How many bytes of the dataset are checked."""

    def show(self, snapshot: Snapshot) -> None:
        """How far the run is; called several times a second."""


class Silent:
    """A Display that shows nothing."""

    def say(self, text: str) -> None:
        """Show nothing."""

    def indexing(self, done: int, total: int) -> None:
        """Show nothing."""

    def show(self, snapshot: Snapshot) -> None:
        """Show nothing."""
