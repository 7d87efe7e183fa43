"""What a session tells an order: what is known of its requests at first, and then how long answers were."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_dp.coordinator.job import Job
from trt_dp.coordinator.order.choose import Known, prompt_tokens
from trt_dp.coordinator.order.contract import Answered
from trt_dp.coordinator.order.earlier_run import lengths_of_run
from trt_dp.coordinator.order.runs import Runs
from trt_dp.dataset.index import Index
from trt_dp.dataset.prefixes import prefix_groups
from trt_dp.types import MOST_TOKENS, Records


def known(job: Job, index: Index, pending: Runs, say: Callable[[str], None]) -> Known:
    """What is known of requests before any of them is answered."""
    return Known(
        pending=pending,
        prompts=prompt_tokens(index.lines),
        limits=_limits(job, index),
        exact=not (_may_stop(job) or index.may_end_early),
        earlier=lengths_of_run(job.lengths_from, index) if job.lengths_from else None,
        clock=perf_counter,
        prefixes=lambda: prefix_groups(index, pending[:]),
        say=say,
    )


def _may_stop(job: Job) -> bool:
    """Whether the run itself lets answers end before their length."""
    sampling = job.defaults.sampling
    return bool(job.defaults.stop_at_eos or sampling.stop or sampling.stop_token_ids)


def _limits(job: Job, index: Index) -> NDArray[np.integer[Any]]:
    """How many tokens each answer can have, as far as the coordinator knows."""
    limits = index.lines["output_tokens"]
    if not index.without_length:
        return limits
    open_ended = job.defaults.max_tokens or MOST_TOKENS
    return np.where(limits == 0, np.int32(open_ended), limits).astype(np.int32)


def answered(worker: int, records: Records) -> Answered:
    """What an order can learn from answers: one that failed has no tokens, and tells nothing of lengths."""
    seconds = records["total_seconds"] - records["queue_seconds"]
    tokens = records["output_tokens"].astype(np.int64)
    return Answered(
        worker=worker,
        indices=records["index"].astype(np.int64),
        tokens=tokens,
        seconds=seconds.astype(np.float64),
    )
