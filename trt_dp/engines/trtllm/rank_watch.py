"""Watches a process that loads an engine on several GPUs: `python -m trt_dp.engines.trtllm.rank_watch PID`.

Once one of the ranks that TensorRT-LLM has started is dead, or none has come up in time, it says so and kills the
process that waits for them, after a moment in which that process may end with a reason of its own.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

from trt_dp.system.guard import descendants

PROGRAM = "executorWorker"
_START_SECONDS = 300.0
_OWN_REASON_SECONDS = 3.0
_LOOK_SECONDS = 0.02


def main(pid: int) -> None:
    """Say that it watches, and watch until the process ends or must be ended."""
    os.write(1, b"watching\n")
    started, seen = time.monotonic(), set[int]()
    while os.getppid() == pid:
        ranks = ranks_of(pid)
        if seen - ranks:
            _end(pid, f"{PROGRAM} died while the engine was loading")
            return
        seen |= ranks
        if not seen and time.monotonic() - started > _START_SECONDS:
            _end(pid, f"no {PROGRAM} has started in {_START_SECONDS:.0f} s")
            return
        time.sleep(_LOOK_SECONDS)


def ranks_of(pid: int) -> set[int]:
    """The living ranks below a process."""
    return {one for one in descendants(pid) if _is_living_rank(one)}


def _is_living_rank(pid: int) -> bool:
    try:
        before, _, after = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
    except OSError:
        return False
    return before.partition("(")[2] == PROGRAM and after.split()[0] not in "ZX"


def _end(pid: int, why: str) -> None:
    time.sleep(_OWN_REASON_SECONDS)
    if os.getppid() != pid:
        return
    sys.stderr.write(f"{why}\n")
    sys.stderr.flush()
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main(int(sys.argv[1]))
