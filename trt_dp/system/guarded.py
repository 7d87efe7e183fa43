"""A command under a guard: what launchers start on this machine ends with everything that it started itself."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from trt_dp.system import guard


class Guarded:
    """A command and all below it: running, or ended. The end of this process ends it too, even by SIGKILL.

    A folder that is given as its `scratch` is removed when all has ended.
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
            with contextlib.suppress(BrokenPipeError):  # its end will be noticed
                self._guard.stdin.write(json.dumps([list(command), scratch]).encode() + b"\n")
                self._guard.stdin.flush()

    def poll(self) -> int | None:
        """The command's exit status, once it and all that it started have ended."""
        status = self._guard.poll()
        if status is not None and not self._ended:
            self._ended = True
            self._hang_up()
            _end_session(self._guard.pid)  # in case the guard itself was killed
            if self._scratch:
                shutil.rmtree(self._scratch, ignore_errors=True)
        return status

    def kill(self) -> None:
        """End the command and all that it started."""
        self._hang_up()
        if self._guard.poll() is None:
            self._guard.send_signal(signal.SIGCONT)  # it does its work even if somebody stopped it

    def _hang_up(self) -> None:
        if self._guard.stdin:
            with contextlib.suppress(BrokenPipeError):
                self._guard.stdin.close()


def _end_session(session: int) -> None:
    """Kill a guard's process group, and the groups that mpirun made in its session."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(session, signal.SIGKILL)
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getsid(int(process.name)) == session:
                os.kill(int(process.name), signal.SIGKILL)


@contextlib.contextmanager
def _on_cores(cores: Sequence[int]) -> Iterator[None]:
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
