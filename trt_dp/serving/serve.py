"""`trt-dp serve`: from what is asked to servers that run until somebody stops them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from trt_dp.serving.fleet import Fleet, View
from trt_dp.serving.launch import Layout
from trt_dp.serving.post import Limits
from trt_dp.system.signals import noted

_TICK_SECONDS = 0.2


class Display(Protocol):
    """Who watches the servers."""

    def say(self, text: str) -> None:
        """Something happened that a user should know."""

    def show(self, views: Sequence[View]) -> None:
        """How all servers are; called several times a second."""


def serve(
    layout: Layout, limits: Limits, display: Display, ready: Callable[[Layout], None]
) -> None:
    """Keep the servers running until a signal comes; `ready` is called once, when all can be used.

    Raises NoServersLeft when every one of them has died too often.
    """
    for note in layout.notes:
        display.say(note)
    told = False
    with noted() as signals, Fleet(layout, limits, display.say) as fleet:
        while not signals:
            fleet.tick(_TICK_SECONDS)
            display.show(fleet.views())
            if fleet.ready and not told:
                told = True
                ready(layout)
    display.say("stopped: nothing is left of the servers")
