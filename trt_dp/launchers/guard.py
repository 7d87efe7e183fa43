"""A small process that outlives the coordinator by an instant: it ends the process groups it was told of.

Groups come on stdin, one a line, `+123` when started and `-123` when ended. The end of stdin is the end
of the coordinator, however it died. It runs by itself, so it imports nothing of the package.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterable

Tell = Callable[[str], None]


def watch(words: Iterable[str]) -> None:
    """Follow what is said until it ends, then end what is left."""
    groups: set[int] = set()
    for word in words:
        (groups.add if word[0] == "+" else groups.discard)(int(word[1:]))
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    watch(sys.stdin)
