"""The worker inside this process, in a thread: for debuggers and profilers."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

from trt_dp.types import Placement
from trt_dp.worker import serve as worker


class InlineLauncher:
    """Runs workers as threads. Nothing confines them to devices or ends them when they are stuck."""

    host = "127.0.0.1"
    killable = False

    def start(self, placement: Placement, environment: dict[str, str], log: Path) -> _Thread:
        """Start a worker; only its devices' variables reach this process's environment."""
        os.environ.update(placement.environment)
        return _Thread(environment, log)

    def close(self) -> None:
        """There is nothing to free."""


class _Thread:
    """A worker that serves in a thread of this process; it ends with its channel."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self._status: int | None = None
        self._log = log
        self._thread = threading.Thread(target=self._serve, args=(environment,), daemon=True)
        self._thread.start()

    def poll(self) -> int | None:
        """0 after a good end, 1 after an error, as a process's status would be."""
        return None if self._thread.is_alive() else self._status

    def kill(self) -> None:
        """A thread cannot be killed: its channel is closed already, and it ends when it looks there."""

    def _serve(self, environment: dict[str, str]) -> None:
        with self._log.open("a") as output:
            handler = logging.StreamHandler(output)
            logger = logging.getLogger("trt_dp")
            logger.setLevel(logging.INFO)  # as in a worker process
            logger.addHandler(handler)
            self._status = worker.serve(environment)
            logger.removeHandler(handler)
