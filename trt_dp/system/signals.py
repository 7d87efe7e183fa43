"""Lets a command be stopped politely: a kill is what Ctrl-C is, so that both clean up."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

from trt_dp.errors import Interrupted


@contextlib.contextmanager
def stoppable(left: str) -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into Interrupted, which says what is left of the work."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt as error:
        msg = f"stopped: {left}"
        raise Interrupted(msg) from error
    finally:
        signal.signal(signal.SIGTERM, before)
