"""What checks on real GPUs need: commands with a limit that can be set, and requests that any engine takes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from trtllm_engines import write_requests

SECONDS = int(os.environ.get("TRT_DP_GPU_SECONDS") or "1800")
COMMAND = [sys.executable, "-m", "trt_dp"]
_LAST_LINES = 40


def ask(*words: object, seconds: float = SECONDS) -> subprocess.CompletedProcess[str]:
    """A command as a user types it, with a limit that can be set."""
    line = [*COMMAND, *map(str, words)]
    try:
        return subprocess.run(line, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        pytest.fail(f"no end after {seconds:.0f} s (TRT_DP_GPU_SECONDS): {' '.join(line[2:])}")


def need(gpus: int, needed: int) -> None:
    """Skip, with the reason, what this machine has too few GPUs for."""
    if gpus < needed:
        pytest.skip(f"needs {needed} GPUs, and there {'is' if gpus == 1 else 'are'} {gpus}")


def requests_for(vocabulary: int, max_seq_len: int, folder: Path) -> Path:
    """Two hundred requests that any engine of these limits takes."""
    most = min(64, max_seq_len // 4)
    made = [
        ([(31 * n + 7 * place) % vocabulary for place in range(1 + n % most)], 1 + n % most)
        for n in range(200)
    ]
    return write_requests(folder / "requests.jsonl", made)


def end_of(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-_LAST_LINES:])
