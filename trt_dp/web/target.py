"""What a user names as an endpoint, taken apart and checked."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from msgspec import Struct

from trt_dp.errors import UsageError

_PORTS = {"http": 80, "https": 443}
_PATH = re.compile(r"[!-~]*")


class Target(Struct, frozen=True):
    """A server and the path in front of all that is asked of it; it has no user name and no query."""

    host: str
    port: int
    tls: bool = False
    path: str = ""  # without a slash at the end

    @property
    def authority(self) -> str:
        """Host and port as in a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def scheme(self) -> str:
        """The scheme http or https."""
        return "https" if self.tls else "http"

    def __str__(self) -> str:
        """The URL."""
        return f"{self.scheme}://{self.authority}{self.path}"


def target(url: str) -> Target:
    """The server of a URL; raises UsageError for one that cannot be asked over HTTP."""
    if not url.isprintable():
        raise _wrong(repr(url), "it has characters that cannot be seen")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _wrong(url, str(error)) from error
    if parts.scheme not in _PORTS:
        raise _wrong(url, "it begins with neither http:// nor https://")
    if parts.username is not None or parts.password is not None:
        msg = "an endpoint holds a user name or password: give keys in the environment instead"
        raise UsageError(msg)
    if parts.query or parts.fragment:
        raise _wrong(url, "it has a query or fragment")
    if not _is_host(parts.hostname) or not _PATH.fullmatch(parts.path):
        raise _wrong(url, "its host or path cannot be used")
    return Target(
        parts.hostname or "",
        port or _PORTS[parts.scheme],
        parts.scheme == "https",
        parts.path.rstrip("/"),
    )


def _is_host(host: str | None) -> bool:
    return bool(host) and bool(re.fullmatch(r"[A-Za-z0-9._:%-]+", host or ""))


def _wrong(url: str, why: str) -> UsageError:
    return UsageError(
        f"{url} is not a usable URL of a server: {why}. Example: http://127.0.0.1:8000"
    )
