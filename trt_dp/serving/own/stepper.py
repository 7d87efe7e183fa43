"""The thread that owns the engine: requests join what is in flight at every step, and what comes is handed on."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from trt_dp.engines import Engine
from trt_dp.errors import RequestRefused
from trt_dp.types import Failure, Progress, Request, Result, Returned

_PAUSED_SECONDS = 0.05
_log = logging.getLogger(__name__)

Events = list[Progress | Result]


class Stepper:
    """Steps the engine while anything is in flight; ends when told to, or when the engine raises.

    `deliver` is called in this thread, once for each step that brought something; `failed` at most once.
    """

    def __init__(
        self,
        engine: Engine,
        at_once: int,
        deliver: Callable[[Events], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self._engine: Any = engine
        self._at_once = at_once  # requests in the engine, where it takes so many
        self._deliver, self._failed = deliver, failed
        self._changed = threading.Condition()
        self._new: deque[Request] = deque()
        self._dropped: list[int] = []
        self._stopping = False
        self._streamed: set[int] = set()
        self._waiting: deque[Request] = deque()
        self._in_flight: set[int] = set()
        self._unwanted: set[int] = set()  # in flight, in an engine that cannot cancel
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    @property
    def streams(self) -> bool:
        """Whether the engine tells what it has of an answer before the answer is complete."""
        return hasattr(self._engine, "progress")

    def start(self) -> None:
        """Begin to step."""
        self._thread.start()

    def submit(self, requests: Sequence[Request], *, streamed: bool) -> None:
        """Have these answered; `streamed`: tell their progress too."""
        with self._changed:
            self._new.extend(requests)
            if streamed and self.streams:
                self._streamed.update(request.index for request in requests)
            self._changed.notify()

    def drop(self, indexes: Iterable[int]) -> None:
        """Nobody wants these answers any more."""
        with self._changed:
            self._dropped.extend(indexes)
            self._changed.notify()

    def stop(self, seconds: float) -> None:
        """End after this step, and free the engine; one that does not return in time is left as it is."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(seconds)

    def _run(self) -> None:
        try:
            while self._take():
                self._submit()
                if self._in_flight:
                    self._step()
            self._engine.close()
        except Exception as error:
            _log.exception("the engine failed")
            self._failed(error)

    def _take(self) -> bool:
        """Wait for something to do and take what is new; False once it is time to end."""
        with self._changed:
            while not (self._in_flight or self._new or self._dropped or self._stopping):
                if self._waiting and self._changed.wait(_PAUSED_SECONDS) is False:
                    break  # the engine takes none for now: ask it again
                if not self._waiting:
                    self._changed.wait()
            self._waiting.extend(self._new)
            self._new.clear()
            dropped, self._dropped = self._dropped, []
        for index in dropped:
            self._drop(index)
        return not self._stopping

    def _drop(self, index: int) -> None:
        """Cancel what the engine has, if it can; an answer that comes all the same goes to nobody."""
        self._streamed.discard(index)
        if index not in self._in_flight:
            self._waiting = deque(one for one in self._waiting if one.index != index)
        elif hasattr(self._engine, "cancel"):
            self._engine.cancel(index)
            self._in_flight.discard(index)
        else:
            self._unwanted.add(index)

    def _submit(self) -> None:
        refused: Events = []
        while self._waiting and len(self._in_flight) < min(self._at_once, self._engine.capacity):
            request = self._waiting.popleft()
            try:
                self._engine.submit(request)
                self._in_flight.add(request.index)
            except RequestRefused as reason:
                refused.append(Result(request.index, error=Failure("refused", str(reason))))
        if refused:
            self._deliver(refused)

    def _step(self) -> None:
        results = [_result(one) for one in self._engine.step()]
        for result in results:
            self._in_flight.remove(result.index)
            self._streamed.discard(result.index)
        events: Events = list(self._progress())
        events += [one for one in results if one.index not in self._unwanted]
        self._unwanted.difference_update(one.index for one in results)
        if events:
            self._deliver(events)

    def _progress(self) -> list[Progress]:
        wanted = self._streamed & self._in_flight
        found: list[Progress] = self._engine.progress(wanted) if wanted else []
        return found


def _result(found: Result | Returned) -> Result:
    """What the engine gave back is for the client to ask again, unless the request itself is to blame."""
    if isinstance(found, Result):
        return found
    kind = "returned" if found.blame == "none" else "engine_error"
    return Result(found.index, error=Failure(kind, found.reason))
