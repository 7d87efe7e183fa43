"""Lets a command be stopped cleanly: SIGTERM and SIGHUP do what Ctrl-C does."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

from trt_dp.errors import Interrupted

_STOPPING = (signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def stoppable(left: str) -> Iterator[None]:
    """Turn Ctrl-C, SIGTERM and SIGHUP into Interrupted, which says what is left of the work."""
    before = {kind: signal.getsignal(kind) for kind in _STOPPING}
    for kind, handler in before.items():
        if handler != signal.SIG_IGN:  # nohup ignores SIGHUP: leave that as it is
            signal.signal(kind, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt as error:
        msg = f"stopped: {left}"
        raise Interrupted(msg) from error
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
