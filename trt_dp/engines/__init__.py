"""What an engine is. One file here (or in any package) and one entry point in `trt_dp.engines` add another."""

from __future__ import annotations

from typing import Protocol

from trt_dp.types import Facts, Request, Result


class Engine(Protocol):
    """A loaded model with its own batching; it knows nothing of processes, sockets or files.

    It is made in the worker as `cls(spec, placement, **options)`, where the options are what the user
    gave with --set, converted to the types of the constructor's keyword-only parameters. A constructor
    that cannot load raises EngineRefused with a sentence for the user. A library that the engine needs
    is imported in its file only, and the file is imported in the worker only.

    Under the launcher mpi, for an engine whose ranks share a model, each rank makes one like it. Rank 0's is
    used like any engine; the others are closed as soon as they are made, and their `close` serves until rank 0's
    is closed. The class or its module may have `why_not()`, which gives what keeps it from running here, or None.
    """

    @property
    def capacity(self) -> int:
        """How many requests it wants in hand at once, those that wait inside it included."""

    def submit(self, request: Request) -> None:
        """Take a request; raises RequestRefused if this one is beyond it. Never called beyond `capacity`."""

    def step(self) -> list[Result]:
        """Go on a little, and give what is finished: at most one result for each request submitted.

        Called only while something is in hand; it must return often enough for the worker to show
        that it lives (--stall-seconds), with an empty list when nothing is finished yet.
        """

    def close(self) -> None:
        """Let go of the model; called once, with nothing in hand."""


class Telling(Protocol):
    """What an engine may be as well: one that says how it runs."""

    def facts(self) -> Facts:
        """What a report should say of it; asked after loading, and now and then while it answers."""
