"""By which of its addresses other machines reach this one."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence

from trt_dp.errors import UsageError

_ANY_PORT = 9  # nothing is sent there: the system only chooses a way


def address_towards(hosts: Sequence[str]) -> str:
    """The address of this machine on the network of these hosts; raises UsageError unless there is exactly one."""
    if not hosts:
        msg = "name the address on which this machine listens for its hosts: --address"
        raise UsageError(msg)
    found = dict.fromkeys(_source(host) for host in hosts)
    outside = [one for one in found if not ipaddress.ip_address(one).is_loopback]
    if len(outside) > 1:
        msg = (
            f"the hosts reach this machine by different addresses ({', '.join(outside)}): "
            "name one that all can reach: --address"
        )
        raise UsageError(msg)
    return (outside or list(found))[0]


def _source(host: str) -> str:
    """From which address this machine would speak to a host."""
    try:
        family, kind, _, _, where = socket.getaddrinfo(host, _ANY_PORT, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(where)
            return str(probe.getsockname()[0])
    except OSError as error:
        reason = error.strerror or str(error)
        msg = f"this machine finds no way to {host} ({reason}): name the address that it reaches with --address"
        raise UsageError(msg) from error
