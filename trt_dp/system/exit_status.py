"""The end of a process in words."""

from __future__ import annotations

import signal


def end_of_process(status: int | None) -> str:
    """The meaning of an exit status, in words."""
    if status is None:
        return "it could not be killed"
    if status < 0:
        names = {kind.value: kind.name for kind in signal.Signals}
        return f"it was killed by {names.get(-status, f'signal {-status}')}"
    return f"it exited with status {status}"
