"""trt-dp: one file of requests, N engines, one shared queue, results in input order.

import trt_dp

outcome = trt_dp.run("requests.jsonl", engine="cpu", engine_path="engines/default", workers=2)
for answer in trt_dp.load_results(outcome.folder):
print(answer["task_id"], answer["output_ids"])
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trt_dp.api import (
        build,
        calibrate,
        load_failures,
        load_report,
        load_results,
        prepare,
        run,
        write_page,
    )

__all__ = [
    "build",
    "calibrate",
    "load_failures",
    "load_report",
    "load_results",
    "prepare",
    "run",
    "write_page",
]


def __getattr__(name: str) -> object:
    """Load the API when it is first used: a worker, which imports this package too, has no use for it."""
    if name in __all__:
        from trt_dp import api

        return getattr(api, name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
