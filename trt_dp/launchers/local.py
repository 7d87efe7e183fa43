"""Workers as processes of this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from trt_dp.launchers import guard
from trt_dp.types import Placement

_GUARD_SECONDS = 10
WORKER = (  # `-m` would look for modules in the current folder first, which may be a stranger's
    "import sys; sys.path[:] = [place for place in sys.path if place]\n"
    "from trt_dp.worker import main; sys.exit(main())"
)


class LocalLauncher:
    """Starts each worker in a process group of its own, and a guard that ends them if this process dies."""

    host = "127.0.0.1"
    killable = True

    def __init__(self) -> None:
        self._guard = subprocess.Popen(
            [sys.executable, "-I", "-S", guard.__file__],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def start(self, placement: Placement, environment: dict[str, str], log: Path) -> _Group:
        """Start a worker on its cores; it never inherits another's environment or terminal."""
        with log.open("ab") as output, _on_cores(placement.cores):
            process = subprocess.Popen(
                [sys.executable, "-c", WORKER, "trt_dp.worker"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._tell(f"+{process.pid}")
        return _Group(process, self._tell)

    def close(self) -> None:
        """Let the guard go."""
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            self._guard.communicate(timeout=_GUARD_SECONDS)

    def _tell(self, word: str) -> None:
        with contextlib.suppress(OSError):  # without its guard a run goes on unguarded
            if self._guard.stdin:
                self._guard.stdin.write(f"{word}\n".encode())
                self._guard.stdin.flush()


class _Group:
    """A worker and its children: running, or ended, when the guard has been told to forget them."""

    def __init__(self, process: subprocess.Popen[bytes], tell: guard.Tell) -> None:
        self._process = process
        self._tell = tell
        self._ended = False

    def poll(self) -> int | None:
        """The exit status once the worker has ended; its children are ended with it."""
        status = self._process.poll()
        if status is not None and not self._ended:
            self._ended = True
            self._signal()
            self._tell(f"-{self._process.pid}")
        return status

    def kill(self) -> None:
        """End the whole group."""
        if not self._ended:
            self._signal()

    def _signal(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)


@contextlib.contextmanager
def _on_cores(cores: tuple[int, ...]) -> Iterator[None]:
    """What is started here starts on these cores: a child is confined before its first instruction."""
    if not cores or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
