"""Lists of hosts as a user writes them."""

from __future__ import annotations

import re

from trt_dp.errors import UsageError

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@:%\[\]-]*")


def host_names(text: str, option: str = "--hosts") -> list[str]:
    """The names in a list with commas; raises UsageError unless there are some, each once, and none is an option."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        msg = f"{option} names no host: give their names with commas between, as in {option} a,b"
        raise UsageError(msg)
    for name in names:
        if not _NAME.fullmatch(name):
            msg = f"{option} names {name!r}, which is no name of a host"
            raise UsageError(msg)
        if names.count(name) > 1:
            msg = f"{option} names {name} twice: one agent serves all its workers"
            raise UsageError(msg)
    return names
