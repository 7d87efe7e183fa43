"""Servers for as long as something else runs in this process: a thread looks after them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from trt_dp.errors import Interrupted, NoServersLeft
from trt_dp.serving.fleet import Fleet
from trt_dp.serving.launch import Layout
from trt_dp.serving.post import Limits
from trt_dp.system.signals import noted

_TICK_SECONDS = 0.2


@contextlib.contextmanager
def served(layout: Layout, limits: Limits, say: Callable[[str], None]) -> Iterator[tuple[str, ...]]:
    """The endpoints, once all servers can be used; at the end of the block nothing is left of them.

    `say` is called in the thread too. When no server is left it is told so; what uses them notices by itself.
    """
    for note in layout.notes:
        say(note)
    with Fleet(layout, limits, say) as fleet:
        with noted() as signals:
            if not fleet.wait_ready(signals):
                msg = "stopped while the servers were loading: nothing was sent to them"
                raise Interrupted(msg)
        over = threading.Event()
        thread = threading.Thread(target=_look_after, args=(fleet, over, say), name="servers")
        thread.start()
        try:
            yield layout.endpoints
        finally:
            over.set()
            thread.join()


def _look_after(fleet: Fleet, over: threading.Event, say: Callable[[str], None]) -> None:
    try:
        while not over.is_set():
            fleet.tick(_TICK_SECONDS)
    except NoServersLeft as error:
        say(str(error))
