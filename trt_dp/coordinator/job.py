"""What a run is asked to do, and who watches it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from trt_dp.coordinator.lane import Lane
from trt_dp.coordinator.limits import Limits
from trt_dp.coordinator.order.choose import check_name
from trt_dp.errors import UsageError
from trt_dp.types import EngineSpec, Sampling


class Job(Struct, frozen=True):
    """All that a run can be asked to do."""

    dataset: Path
    folder: Path
    engine: EngineSpec
    workers: int | None = None
    gpus_per_worker: int | None = None
    workers_per_gpu: int = 1
    launcher: str = "local"
    fresh: bool = False
    skip_bad: bool = False
    timing: bool = True
    detokenize: bool = False
    limits: Limits = Limits()
    grace_seconds: float = 30.0
    order: str = "auto"
    lengths_from: Path | None = None


def check(job: Job) -> None:
    """Raises UsageError for a limit or a sampling setting that is out of range."""
    limits, sampling = job.limits, job.engine.sampling
    for name, value, least in (
        ("--stall-seconds", limits.stall_seconds, 0.1),
        ("--start-seconds", limits.start_seconds, 0.1),
        ("--load-seconds", limits.load_seconds, 0.1),
        ("--answer-seconds", limits.answer_seconds, 0.1),
        ("--grace-seconds", job.grace_seconds, 0.0),
        ("--max-restarts", limits.max_restarts, 0),
        ("--temperature", sampling.temperature, 0.0),
        ("--top-k", sampling.top_k, 0),
        ("--seed", sampling.seed, 0),
    ):
        if not value >= least:  # so that NaN is refused too
            msg = f"{name} is {value}: it must be at least {least}"
            raise UsageError(msg)
    _check_sampling(sampling)
    check_name(job.order)
    _check_lengths_from(job)


def _check_lengths_from(job: Job) -> None:
    if job.lengths_from is None:
        return
    if job.order == "file":
        msg = "--lengths-from has no use with --order file: leave one of them out"
        raise UsageError(msg)
    if not job.engine.sampling.stop_at_eos:
        msg = (
            "--lengths-from has no use without --stop-at-eos: all answers are as long as asked for"
        )
        raise UsageError(msg)


def _check_sampling(sampling: Sampling) -> None:
    if not 0 < sampling.top_p <= 1:
        msg = f"--top-p is {sampling.top_p}: it must be above 0 and at most 1"
        raise UsageError(msg)
    if math.isinf(sampling.temperature):
        msg = "--temperature must be a finite number"
        raise UsageError(msg)
    narrowed = sampling.top_k or sampling.top_p < 1 or sampling.seed
    if narrowed and not sampling.temperature:
        msg = "--top-k, --top-p and --seed need a --temperature above 0: at 0 the most likely token is always chosen"
        raise UsageError(msg)


class Snapshot(Struct, frozen=True, kw_only=True):
    """How far a run is.

    `wanted_tokens` are the output tokens that the requests of this sitting ask for, `wanted_done` those of the
    completed ones. `seconds` count from the start of the run, `serving_seconds` from the first request sent.
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
    lanes: Sequence[Lane] = ()


class Display(Protocol):
    """Who watches a run: hears of its phases, of what happens, and often how far it is."""

    def say(self, text: str) -> None:
        """Something happened that a user should know."""

    def indexing(self, done: int, total: int) -> None:
        """So many bytes of the dataset are checked."""

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
