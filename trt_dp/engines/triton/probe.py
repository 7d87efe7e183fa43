"""Looks at models that are down or silent, in a thread of its own, by a smallest request.

That a server says it is ready proves nothing: it says so with every process behind it dead, and what was in flight in
a process that died may never be answered.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from trt_dp.engines.triton.inputs import smallest
from trt_dp.engines.triton.lanes import Lane
from trt_dp.engines.triton.transport import Call, Problem, Transport

_LOOK_SECONDS = 0.1
_ANSWER_SECONDS = 10.0


def ask(
    transport: Transport, lane: Lane, *, stream: bool, answer_seconds: float = _ANSWER_SECONDS
) -> Problem | None:
    """What keeps a model from answering the smallest request; waits for its answer, with a limit."""
    found = transport.describe(lane.url, lane.model.name)
    if isinstance(found, Problem):
        return Problem("silent", found.message) if found.trouble == "lost" else found
    outputs = ("output_ids", "sequence_length") if found.takes_ids else ("text_output",)
    inputs = smallest(found, stream=stream)
    transport.send(
        Call(number=0, url=lane.url, model=found, inputs=inputs, outputs=outputs, stream=stream)
    )
    until = time.monotonic() + answer_seconds
    while time.monotonic() < until:
        for outcome in transport.poll(_LOOK_SECONDS):
            return outcome.problem
    return Problem("lost", f"no answer to the smallest request within {answer_seconds:g} s")


class Probe:
    """Runs until closed; it has a transport of its own, made anew for every look."""

    def __init__(
        self, lanes: Iterable[Lane], transport: Callable[[], Transport], *, stream: bool
    ) -> None:
        self._lanes, self._stream = list(lanes), stream
        self._transport = transport
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="probe", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop looking; a look that is going on ends with the process."""
        self._closing.set()
        self._thread.join(timeout=1.0)

    def _run(self) -> None:
        while not self._closing.wait(_LOOK_SECONDS):
            for lane in self._lanes:
                if (not lane.up and lane.rested) or lane.in_doubt:
                    self._look(lane)

    def _look(self, lane: Lane) -> None:
        transport = self._transport()
        try:
            problem = ask(transport, lane, stream=self._stream)
        finally:
            transport.close()
        if problem is None or problem.trouble == "busy":
            lane.come_back()
        else:
            lane.stay_away(problem)
