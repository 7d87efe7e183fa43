"""Agents that the user starts, on machines with no Ray, Slurm, MPI or ssh between them."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from trt_dp.errors import UsageError
from trt_dp.launchers import StarterEnded
from trt_dp.launchers.host_names import host_names
from trt_dp.wire import credentials
from trt_dp.wire.credentials import Credentials


class ByHandLauncher:
    """Writes the key of the run into a file, and waits for agents that bring it: `trt-dp agent --key-file FILE`.

    `hosts` only says towards which machines to listen; `--address` does so as well.
    """

    def __init__(self, *, key_file: str = "", hosts: str = "") -> None:
        if not key_file:
            msg = (
                "the launcher by-hand needs a file for the key of the run: --key-file FILE. "
                "Then run trt-dp agent --key-file FILE on each host"
            )
            raise UsageError(msg)
        self._file = Path(key_file)
        self._written = False
        self.hosts: Sequence[str] = host_names(hosts) if hosts else ()

    def begin(self, door: Credentials) -> None:
        """Write the key file."""
        credentials.write(door, self._file)
        self._written = True

    def poll(self) -> list[StarterEnded]:
        """Nothing was started here."""
        return []

    def close(self) -> None:
        """Remove the key file: the key is worthless now."""
        if self._written:
            with contextlib.suppress(OSError):
                self._file.unlink()
