"""Values that must not be shown or stored, recognised by their names."""

from __future__ import annotations

import re
from collections.abc import Mapping

REDACTED = "(secret)"
_SHORTEST = 4  # a shorter value is found in any text
_SECRET = re.compile(
    r"secret|passw(or)?d|passphrase|credential|bearer|(keys?|token|pwd|auth|authorization|cookie)$"
)


def is_secret(name: str) -> bool:
    """Whether a setting of this name looks like a password, a key or a token; `max_tokens` does not."""
    return bool(_SECRET.search(name.lower()))


def redact(name: str, value: str) -> str:
    """The value as it may be shown."""
    return REDACTED if is_secret(name) else value


def redact_all(settings: Mapping[str, str]) -> dict[str, str]:
    """Settings as they may be shown and stored."""
    return {name: redact(name, value) for name, value in settings.items()}


def scrub(text: str, settings: Mapping[str, str]) -> str:
    """A text in which the values of secret settings are hidden: another library's error may quote them."""
    for name, value in settings.items():
        if is_secret(name) and len(value) >= _SHORTEST:
            text = text.replace(value, REDACTED)
    return text
