"""Where workers that step together meet: an address, and for each of their common starts a port."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import Any

from msgspec import structs

from trt_dp.engines.about import Group, rank_environment
from trt_dp.errors import UsageError

_PORTS = 8  # ranks that meet at a port may also take those that follow it
_TRIES = 100


class Meeting:
    """A group of workers: all start together, and after the death of one all start again, at another port."""

    def __init__(self, engine_class: Any, group: Group) -> None:
        self._engine_class = engine_class
        self._wanted = self._group = group
        self.again()

    def again(self) -> None:
        """Another start of all: the earlier one may still hold its port, unless the user gave it."""
        if not self._wanted.port:
            self._group = structs.replace(self._wanted, port=_free_port())

    def environment(self, worker: int) -> dict[str, str]:
        """What this worker must find in its environment."""
        return rank_environment(self._engine_class, self._group, worker)


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


def _bound(opened: ExitStack, port: int) -> int:
    listener = opened.enter_context(socket.socket())
    listener.bind(("127.0.0.1", port))
    number: int = listener.getsockname()[1]
    return number
