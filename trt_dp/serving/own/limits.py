"""What a client may cost the own server."""

from __future__ import annotations

from msgspec import Struct


class Limits(Struct, frozen=True, kw_only=True):
    """Bounds on connections, bodies, waiting requests, and how slow a client may be."""

    body_bytes: int = 64 << 20
    head_bytes: int = 64 << 10
    connections: int = 1024
    queue: int = 1024  # answers that may wait besides those that the engine takes at once
    read_seconds: float = 60.0  # from the first byte of a request to its last
    write_seconds: float = 60.0  # for which a client may take nothing of its answer
    idle_seconds: float = (
        600.0  # above the 60 s after which NGINX drops a connection: it must be first
    )
