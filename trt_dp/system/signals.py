"""Lets a command be stopped politely: a kill or a closed terminal is like Ctrl-C, so that all of them clean up."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

from trt_dp.errors import Interrupted

_POLITE = (signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def stoppable(left: str) -> Iterator[None]:
    """Turn Ctrl-C, SIGTERM and SIGHUP into Interrupted, which says what is left of the work."""
    before = {number: signal.getsignal(number) for number in _POLITE}
    try:
        for number, handler in before.items():
            if handler != signal.SIG_IGN:  # under nohup SIGHUP is ignored, and stays so
                signal.signal(number, signal.default_int_handler)
        yield
    except KeyboardInterrupt as error:
        msg = f"stopped: {left}"
        raise Interrupted(msg) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
