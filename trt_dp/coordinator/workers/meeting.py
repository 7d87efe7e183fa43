"""Where workers that step together meet: an address, and for each of their common starts a port."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from msgspec import structs

from trt_dp.engines.about import Group, rank_environment
from trt_dp.errors import UsageError

_PORTS = 8  # ranks that meet at a port may also take those that follow it
_TRIES = 100


class Meeting:
    """A group of workers: all start together, and after the death of one they start again, at another port.

    `workers` are those of the group now, in the order of their ranks. Raises UsageError for a port that is in use.
    """

    def __init__(self, engine_class: Any, group: Group) -> None:
        self._engine_class = engine_class
        self._wanted = group
        if group.port:
            _check_free(group)
        self.again(range(group.size))

    def again(self, workers: Sequence[int]) -> None:
        """Another start of these: the earlier one may still hold its port, unless the user gave it."""
        self.workers = tuple(workers)
        port = self._wanted.port or _free_port()
        self._group = structs.replace(self._wanted, size=len(workers), port=port)

    def environment(self, worker: int) -> dict[str, str]:
        """What this worker must find in its environment; nothing where it is the only one."""
        if self._group.size == 1:
            return {}
        return rank_environment(self._engine_class, self._group, self.workers.index(worker))


def _free_port() -> int:
    """The first of several ports in a row that are free now."""
    for _ in range(_TRIES):
        with ExitStack() as opened:
            try:
                first = _bound(opened, 0)
                for port in range(first + 1, first + _PORTS):
                    _bound(opened, port)
            except (OSError, OverflowError):
                continue
            return first
    msg = f"no {_PORTS} free ports in a row were found: name one with --set dp_master_port"
    raise UsageError(msg)


def _check_free(group: Group) -> None:
    """Raises UsageError where another process has the port: ranks would wait for each other at two places."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((group.address, group.port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                used = f"another process uses this port of {group.address}"
                msg = f"--set dp_master_port={group.port}: {used}. Name a free one, or none"
                raise UsageError(msg) from error


def _bound(opened: ExitStack, port: int) -> int:
    listener = opened.enter_context(socket.socket())
    listener.bind(("127.0.0.1", port))
    number: int = listener.getsockname()[1]
    return number
