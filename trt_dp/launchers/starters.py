"""Processes of this machine that start agents elsewhere: begun, ended by themselves, or ended in the end."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import BinaryIO

from trt_dp.system.guarded import end_session

_LAST_BYTES = 2000
_KILL_SECONDS, _SOON = 5.0, 0.02
_LEAVE_SECONDS = 4.0  # an agent that is asked ends its workers just as one that was hung up on


class Starter:
    """One process, such as an ssh or an srun, in a session of its own; what it prints is kept for its last words."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        told: bytes = b"",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.began = time.monotonic()
        self._said: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 - closed at the end
        self._process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=self._said,
            stderr=subprocess.STDOUT,
            env=None if environment is None else dict(environment),
            start_new_session=True,
        )
        self._tell(told)

    def poll(self) -> int | None:
        """Its exit status once it has ended."""
        return self._process.poll()

    def lines(self) -> list[str]:
        """The last lines that it printed, without empty ones."""
        size = os.fstat(self._said.fileno()).st_size
        text = os.pread(self._said.fileno(), _LAST_BYTES, max(0, size - _LAST_BYTES))
        lines = [line.strip() for line in text.decode(errors="replace").splitlines()]
        return [line for line in lines if line]

    def last_words(self) -> str:
        """The last line that it printed, or its exit status."""
        said = self.lines()
        return said[-1] if said else f"its exit status is {self._process.returncode}"

    def hang_up(self) -> None:
        """Close its standard input."""
        if self._process.stdin:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def ask(self) -> None:
        """Ask it to end."""
        self._process.terminate()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def forget(self) -> None:
        """Free what is kept of it once it has ended, and end what it left behind, as mpirun does with an ssh."""
        self.hang_up()
        if self.poll() is not None:
            end_session(self._process.pid)
        self._said.close()

    def _tell(self, told: bytes) -> None:
        if self._process.stdin and told:
            with contextlib.suppress(OSError):  # poll notices that it ended
                self._process.stdin.write(told)
                self._process.stdin.flush()


def end_all(starters: Sequence[Starter], leave_seconds: float = _LEAVE_SECONDS) -> None:
    """Hang up, wait, ask, wait, and only then kill: a starter that is killed may leave what it started."""
    steps: list[tuple[Callable[[Starter], None], float]] = [
        (Starter.hang_up, leave_seconds),
        (Starter.ask, _KILL_SECONDS),
        (Starter.kill, _KILL_SECONDS),
    ]
    left = list(starters)
    for step, seconds in steps:
        for one in left:
            step(one)
        left = _wait(left, seconds)
    for one in starters:
        one.forget()


def _wait(starters: Sequence[Starter], seconds: float) -> list[Starter]:
    """Those that still run after so long."""
    deadline = time.monotonic() + seconds
    left = [one for one in starters if one.poll() is None]
    while left and time.monotonic() < deadline:
        time.sleep(_SOON)
        left = [one for one in left if one.poll() is None]
    return left
