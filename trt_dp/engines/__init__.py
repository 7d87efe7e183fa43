"""What an engine is. One file here (or in any package) and one entry point in `trt_dp.engines` add another."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Protocol

from trt_dp.types import Facts, Progress, Request, Result, Returned


class Engine(Protocol):
    """A loaded model with its own batching; it knows nothing of processes, sockets or files.

    The worker makes it as `cls(spec, placement, **options)`. The options are what the user gave with --set,
    converted to the types of the constructor's keyword-only parameters. A constructor that cannot load
    raises EngineRefused with a sentence for the user.

    The class also answers questions before it is made (see about.py). So importing it must be cheap: it
    imports its heavy library only when it is made.

    Under the launcher mpi, each rank makes an engine. Rank 0's is used like any engine; the others are closed
    as soon as they are made, and their `close` serves until rank 0's is closed.
    """

    @property
    def capacity(self) -> int:
        """How many requests it wants in flight at once, including those that wait inside it.

        At least 1 after loading. Later it may change at any time, also to 0 while the engine can do nothing:
        then it gives back what it has, and looks by itself whether it can go on.
        """

    def submit(self, request: Request) -> None:
        """Take a request; raises RequestRefused if it is too large. Never called beyond `capacity`.

        `request.sampling` asks for nothing that the class does not name in `samples` (see about.py).
        """

    def step(self) -> Sequence[Result | Returned]:
        """Work for a moment and return what is completed: at most one result for each submitted request.

        A request that got no answer for a reason that may pass is given back as Returned and runs again. Before the
        engine has answered once, it takes eight tries to give one up, so an engine that never can should raise.

        An answer has `output_tokens` ids unless something stopped it. The id that did (an EOS, or one of
        `stop_token_ids`) is not in it. Whoever does not look for `stop` or `stop_token_ids` may answer to the full
        length: the worker cuts the answer there.

        Called only while a request is in flight. It must return well within --stall-seconds, with an
        empty list when nothing is completed yet.
        """

    def close(self) -> None:
        """Free the model; called once, with nothing in flight."""


class Together(Protocol):
    """An engine that steps together with those of other workers, also while it has nothing in flight itself."""

    @property
    def idle_seconds(self) -> float | None:
        """How long it may rest before it is stepped again, with nothing in flight; None: until it has something."""


class Bounded(Protocol):
    """An engine that also says how long a request can be, for requests that do not say how long to answer."""

    @property
    def context(self) -> int:
        """The most tokens that prompt and answer may have together."""


class Caching(Protocol):
    """An engine that also says how many tokens its KV cache holds, for orders that count on full batches."""

    @property
    def kv_tokens(self) -> int:
        """The tokens that all requests in flight may have there together; 0: not known."""


class Pausing(Protocol):
    """An engine that also says why its capacity is 0."""

    @property
    def paused_because(self) -> str:
        """The reason, for the user; asked while the capacity is 0."""


class Telling(Protocol):
    """An engine that also says how it runs."""

    def facts(self) -> Facts:
        """What a report should say of it; asked after loading, and now and then while it answers."""


class Streaming(Protocol):
    """An engine that also tells answers while they grow, and lets go of those that nobody wants any more.

    A server asks it; a run never does. Without these methods an answer is streamed in one piece, at its end.
    """

    def progress(self, indexes: AbstractSet[int]) -> list[Progress]:
        """The ids of these requests in flight that no earlier call told, called after a step that did not end them.

        All that it tells begins the answer that `step` returns in the end, before the worker looks for stops.
        """

    def cancel(self, index: int) -> None:
        """Forget this request in flight: no result of it comes any more."""
