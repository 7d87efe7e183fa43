"""What an earlier run tells about the next one: how long its answers were."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from trt_dp.coordinator.record.journal import read_records
from trt_dp.coordinator.run_folder import Asked
from trt_dp.dataset.index import Index
from trt_dp.errors import UNREADABLE, UsageError
from trt_dp.system import safe_files


def lengths_of_run(run: Path, index: Index) -> NDArray[np.int64]:
    """The output tokens of each request in a run over the same dataset; 0 where it has no answer."""
    try:
        asked = msgspec.json.decode(safe_files.read(run / "run.json"), type=Asked)
    except (OSError, *UNREADABLE) as error:
        msg = f"--lengths-from {run}: it is not the folder of a run: {error}"
        raise UsageError(msg) from error
    if asked.fingerprint != index.fingerprint:
        msg = f"--lengths-from {run}: that run answered another dataset, {asked.dataset}"
        raise UsageError(msg)
    lengths = np.zeros(len(index), np.int64)
    for records in read_records(run / "journal", len(index)):
        answered = records[~records["failed"]]
        lengths[answered["index"]] = answered["output_tokens"]
    return lengths
