"""A request to a server, and what came back."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from trt_dp.web.secret import Secret
from trt_dp.web.target import Target

DONE = b"[DONE]"


class Limits(Struct, frozen=True, kw_only=True):
    """How long an exchange may take, and how much may come back."""

    connect_seconds: float = 10.0  # per address; with the TLS handshake
    silent_seconds: float = 600.0  # without any byte, while an answer is awaited
    total_seconds: float = 3600.0
    most_bytes: int = 1 << 28


class Exchange(Struct, frozen=True, kw_only=True):
    """One request; `path` follows the target's own."""

    to: Target
    path: str = ""
    body: bytes = b""
    method: str = "POST"
    stream: bool = False
    key: Secret | None = None  # sent as a bearer token
    headers: tuple[tuple[str, str], ...] = ()
    tag: Any = None
    limits: Limits = Limits()


class Fault(Struct, frozen=True):
    """Why there is no whole answer: `connect`, `tls`, `closed`, `timeout`, `garbled`, `protocol` or `redirect`."""

    kind: str
    message: str


class Reply(Struct, kw_only=True):
    """What came back. Times are those of `time.monotonic()`; `headers` have names in lower case."""

    number: int
    exchange: Exchange
    submitted: float
    first_byte: float = 0.0  # 0: none came
    done: float = 0.0
    status: int = 0  # 0: none came
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    events: list[bytes] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    fault: Fault | None = None

    @property
    def ok(self) -> bool:
        """Whether a whole answer came, and with status 2xx."""
        return self.fault is None and 200 <= self.status < 300
