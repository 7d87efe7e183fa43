"""Which ports servers get: as asked, in a row, and only ones that are free now."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from trt_dp.errors import UsageError

_MOST = 65_535


def take(host: str, first: int, count: int, behind: str | None = None) -> list[int]:
    """So many ports from the first on, or any if it is 0; raises UsageError for the first that is in use.

    With `behind`, all but the first are to be on that host: they are those of servers behind a proxy.
    """
    hosts = [host, *[behind or host] * (count - 1)]
    if first == 0:
        return _any(hosts)
    if not 0 < first <= _MOST - count + 1:
        msg = f"--port {first}: {count} ports from there on do not exist"
        raise UsageError(msg)
    ports = list(range(first, first + count))
    for each, port in zip(hosts, ports, strict=True):
        _bind(each, port).close()
    return ports


def _any(hosts: Sequence[str]) -> list[int]:
    """All are held until all are known, so that none is given twice."""
    held = [_bind(host, 0) for host in hosts]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def _bind(host: str, port: int) -> socket.socket:
    try:
        kind, _, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(kind, socket.SOCK_STREAM, protocol)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind(place)
        except OSError:
            found.close()
            raise
    except OSError as error:
        msg = f"port {port} of {host} cannot be used: {error.strerror}. Choose another --port"
        raise UsageError(msg) from error
    return found
