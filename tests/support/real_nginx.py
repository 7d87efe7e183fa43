"""Debian's NGINX in front of real servers, in a folder of its own."""

from __future__ import annotations

import contextlib
import getpass
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from real_triton import NGINX

from trt_dp.serving import nginx
from trt_dp.serving.nginx import Front

_WAIT_SECONDS = 30


class Nginx:
    """A proxy: started, killed, started again."""

    def __init__(self, folder: Path, fronts: Sequence[Front]) -> None:
        self._folder, self._ports = folder, [int(one.listen.rpartition(":")[2]) for one in fronts]
        folder.mkdir()
        user = getpass.getuser() if os.geteuid() == 0 else None
        (folder / nginx.CONFIG).write_text(nginx.config(fronts, folder, user=user))
        self.start()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        with (self._folder / "said").open("ab") as log:
            self._process = subprocess.Popen(
                nginx.command(str(NGINX), self._folder),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + _WAIT_SECONDS
        while not all(map(_listens, self._ports)):
            assert self._process.poll() is None, self.said()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL, to its worker too."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def said(self) -> str:
        """Its complaints."""
        logs = (self._folder / name for name in ("said", nginx.ERRORS))
        return "".join(log.read_text() for log in logs if log.exists())


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


@contextlib.contextmanager
def proxy(folder: Path, fronts: Sequence[Front]) -> Iterator[Nginx]:
    """NGINX for as long as this lasts."""
    started = Nginx(folder, fronts)
    try:
        yield started
    finally:
        started.kill()
