"""Starts a command under a guard, so that the command ends together with everything that it started."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from trt_dp.system import guard


class Guarded:
    """A command and all its descendants: running or ended. If this process dies, even by SIGKILL, they end too.

    The folder `scratch` is removed when all have ended.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: dict[str, str],
        cores: Sequence[int],
        log: Path,
        scratch: str = "",
    ) -> None:
        with log.open("ab") as output, _on_cores(cores):
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", guard.__file__],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._ended, self._scratch = False, scratch
        if self._guard.stdin:
            with contextlib.suppress(BrokenPipeError):  # poll notices that it ended
                self._guard.stdin.write(_told(command, scratch))
                self._guard.stdin.flush()

    def poll(self) -> int | None:
        """The exit status once the command and all that it started have ended."""
        status = self._guard.poll()
        if status is not None and not self._ended:
            self._ended = True
            self._hang_up()
            end_session(self._guard.pid)  # in case the guard itself was killed
            if self._scratch:
                shutil.rmtree(self._scratch, ignore_errors=True)
        return status

    def kill(self) -> None:
        """End the command and all that it started."""
        self._hang_up()
        if self._guard.poll() is None:
            self._guard.send_signal(signal.SIGCONT)  # in case it was stopped

    def _hang_up(self) -> None:
        if self._guard.stdin:
            with contextlib.suppress(BrokenPipeError):
                self._guard.stdin.close()


def _told(command: Sequence[str], scratch: str) -> bytes:
    """What a guard reads."""
    words = b"\0".join(map(os.fsencode, [scratch, *command]))
    return b"%d\n%b" % (len(words), words)


def end_session(session: int) -> None:
    """Kill what is left of a session whose leader has ended: its process group, and those that mpirun made in it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(session, signal.SIGKILL)
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getsid(int(process.name)) == session:
                os.kill(int(process.name), signal.SIGKILL)


@contextlib.contextmanager
def _on_cores(cores: Sequence[int]) -> Iterator[None]:
    """Processes started in this block run on these cores from their first instruction on."""
    if not cores or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
