"""JSON as a person may read it."""

from __future__ import annotations

import msgspec


def pretty(value: object) -> bytes:
    """Indented JSON; what is no number (NaN) becomes null."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
