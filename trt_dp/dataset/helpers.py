"""Helper processes that scan; they may start before it is known what to scan, as importing takes them a while."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from trt_dp.system import safe_files

PROCESSES = os.cpu_count() or 1
_MUCH = 64 << 20
_early: list[subprocess.Popen[bytes]] = []


def expect(inputs: Iterable[str]) -> None:
    """Start helpers now, if these inputs are files so large that several will be needed."""
    if PROCESSES > 1 and sum(map(_size, inputs)) >= _MUCH:
        _early.extend(_start() for _ in range(PROCESSES))


def take(words: Sequence[str]) -> subprocess.Popen[bytes]:
    """A helper, one that was started before if there is one, that is told what to scan."""
    helper = _early.pop() if _early else _start()
    if helper.stdin is not None:
        with contextlib.suppress(OSError):  # it is dead, and who asks it something will see that
            helper.stdin.write(msgspec.json.encode(words) + b"\n")
            helper.stdin.flush()
    return helper


def end(helper: subprocess.Popen[bytes]) -> None:
    """End a helper at once."""
    helper.kill()
    helper.communicate()


def dismiss() -> None:
    """End those that nobody took."""
    while _early:
        end(_early.pop())


def _start() -> subprocess.Popen[bytes]:
    command = safe_files.python("trt_dp.dataset.scan_process")
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )


def _size(name: str) -> int:
    """The bytes of a file; 0 for anything else."""
    path = Path(name)
    with contextlib.suppress(OSError):
        return path.stat().st_size if path.is_file() else 0
    return 0
