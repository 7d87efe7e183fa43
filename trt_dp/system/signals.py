"""Signals that stop a command: turned into an exception, or noted for a loop to act on."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

from trt_dp.errors import Interrupted


@contextlib.contextmanager
def stoppable(left: str) -> Iterator[None]:
    """Turn Ctrl-C, SIGTERM and SIGHUP into Interrupted, which says what is left of the work."""
    before = {kind: signal.signal(kind, signal.default_int_handler) for kind in _stopping()}
    try:
        yield
    except KeyboardInterrupt as error:
        msg = f"stopped: {left}"
        raise Interrupted(msg) from error
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


@contextlib.contextmanager
def noted() -> Iterator[list[int]]:
    """While this lasts, SIGINT, SIGTERM and SIGHUP only add their number to a list; a loop acts on it."""
    numbers: list[int] = []
    before = {
        kind: signal.signal(kind, lambda number, _: numbers.append(number)) for kind in _stopping()
    }
    try:
        yield numbers
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


def _stopping() -> list[signal.Signals]:
    """The signals that stop this process; none outside the main thread, as Python demands.

    A shell without job control makes what a script starts with `&` ignore SIGINT. It counts all the same, so that
    the script's Ctrl-C and `kill -INT` leave no run behind. Under nohup, which ignores SIGHUP, both stay ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        return []
    if _ignored(signal.SIGHUP):
        return [one for one in (signal.SIGINT, signal.SIGTERM) if not _ignored(one)]
    return [signal.SIGINT, *(one for one in (signal.SIGTERM, signal.SIGHUP) if not _ignored(one))]


def _ignored(kind: signal.Signals) -> bool:
    return signal.getsignal(kind) in (signal.SIG_IGN, None)
