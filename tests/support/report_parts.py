"""Small counts that a report is made of."""

from __future__ import annotations

import numpy as np

from trt_dp.report.counts import Counts, Whole, WorkerCounts
from trt_dp.report.schema import PHASES, Activity, Death

NONE = [np.empty(0, np.float32)]
NO_ACTIVITY = Activity(0, 0.0, 0.0, 0.0)


def whole(**changes) -> Whole:
    values = {
        "engine": "echo",
        "dataset": "set.jsonl",
        "launcher": "local",
        "requests": 50,
        "answered": 45,
        "failed": 5,
        "devices": [["0"], ["1"]],
        "phases": dict(zip(PHASES, [1.0, 1.0, 1.0, 4.0, 1.0, 1.0, 1.0], strict=True)),
        "sorting": Activity(45, 0.5, 0.25, 90.0),
        "wall_seconds": 10.0,
        "coordinator_cpu_seconds": 0.502,
        "startup_cpu_seconds": 0.5,
        "coordinator_peak_rss_bytes": 1234,
        "dropped_journal_bytes": 7,
        "began": 100.0,
    }
    return Whole(**{**values, **changes})


def counts(**changes) -> Counts:
    values = {
        "serving_seconds": 4.0,
        "sending": Activity(42, 3.0, 0.1, 14.0),
        "receiving": Activity(42, 3.5, 0.2, 12.0),
        "workers": [
            WorkerCounts(30, 3000, 600, 1.5, 0.25, 1),
            WorkerCounts(10, 1000, 200, 1.25, 0.75, 0),
        ],
        "failed": 2,
        "deaths": [Death(0, "it was killed by SIGKILL", 103.0, 6, 0.5)],
        "redone": 6,
        "latency": [np.array([0.1, 0.2, 0.3, 0.4], np.float32)],
        "first_token": [np.array([0.05], np.float32)],
        "queue_wait": NONE,
        "turnaround": [np.array([1.0], np.float32), np.array([3.0], np.float32)],
    }
    return Counts(**{**values, **changes})
