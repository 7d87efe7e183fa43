"""Decoding by transformers' continuous batching: a manager of its own thread, with a paged KV cache."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, Protocol

import numpy as np

from trt_dp.engines.cpu.decoder import Ended, OpenTokenizer, Step
from trt_dp.engines.transformers.decoder import Row, row_of
from trt_dp.engines.transformers.paging import Chooser, Pages
from trt_dp.types import Facts, Request, Sampling

_WAIT_SECONDS = 0.1
_DEATH_SECONDS = 5.0
_START_SECONDS = 300.0


class Paging(Protocol):
    """What starts and stops managers of continuous batching."""

    def start_paging(self, pages: Pages, chooser: Chooser) -> Any:
        """A manager that runs."""

    def stop_paging(self, manager: Any) -> None:
        """End it, and free what it holds."""

    def check(self) -> None:
        """Raise if the model cannot run any more."""


class PagingEndedError(RuntimeError):
    """The manager's thread has ended, and with it everything in progress."""


class Continuous:
    """Requests in a manager, each under a name of its own: it never gets more than its cache can hold to the end."""

    def __init__(
        self, paging: Paging, pages: Pages, eos: frozenset[int], open_tokenizer: OpenTokenizer
    ) -> None:
        self._paging, self._pages = paging, pages
        self._eos, self._open_tokenizer = eos, open_tokenizer
        self.lookahead = max(4, pages.max_sequences // 4)
        self._most = pages.max_sequences
        self._names = itertools.count()
        self._begin()

    def take(self, waiting: deque[Request]) -> list[Request]:
        """Start the oldest, as long as there is a place and room for each to its very end."""
        taken: list[Request] = []
        while waiting and len(self._rows) < self._most:
            needed = self._blocks_of(waiting[0])
            if needed > self._free:
                break
            self._free -= needed
            taken.append(waiting.popleft())
            self._start(taken[-1])
        return taken

    def step(self) -> Step:
        """What has begun and ended since the last time; raises PagingEndedError once the manager is dead."""
        outputs = self._outputs()
        failed = [one.error for one in outputs if one.error and one.request_id in self._rows]
        if failed or not self._manager.is_running():
            self._see_death(failed)
        stopped = _drained(self._chooser.stopped)
        begun = [name for name in _drained(self._chooser.begun) if name in self._rows]
        first = [self._rows[name].request.index for name in begun]
        ended = [self._end(one.request_id, one) for one in outputs if one.request_id in self._rows]
        ended += [self._end(name, None) for name in stopped if name in self._rows]
        return Step(first, ended)

    def restart(self, *, smaller: bool) -> None:
        """Another manager in the place of this one."""
        self._paging.stop_paging(self._manager)
        self._paging.check()
        if smaller:
            self._most = max(1, self._most // 2)
        self._begin()

    def facts(self) -> Facts:
        """How full the batches were."""
        pages, chooser = self._pages, self._chooser
        facts: Facts = {
            "batching": "continuous",
            "decoded_at_once": self._most,
            "page_size": pages.page_size,
            "kv_blocks": pages.blocks,
            "cuda_graph": "on" if pages.cuda_graph else "off",
        }
        if chooser.steps:
            facts["steps"] = chooser.steps
            facts["mean_batch"] = round(chooser.sequences / chooser.steps, 1)
        return facts

    def close(self) -> None:
        """End the manager."""
        self._paging.stop_paging(self._manager)

    def try_out(self) -> None:
        """Answer a request of one token; raises PagingEndedError for a model that cannot be decoded so."""
        sampling = Sampling(ignore_eos=True)
        prompt = np.zeros(1, np.int64)
        request = Request(
            index=-1, task_id=-1, input_ids=prompt, output_tokens=2, sampling=sampling
        )
        self.take(deque([request]))
        deadline = time.monotonic() + _START_SECONDS
        while not self.step().ended:
            if time.monotonic() > deadline:
                self._see_death([f"it answered nothing in {_START_SECONDS:.0f} s"])
        self._chooser.steps = self._chooser.sequences = 0

    def _begin(self) -> None:
        self._chooser = Chooser()
        self._rows: dict[str, Row] = {}
        self._free = self._pages.blocks
        try:
            self._manager = self._paging.start_paging(self._pages, self._chooser)
        except Exception as error:  # a kind of model that it does not know, or no memory
            msg = f"transformers' continuous batching does not start: {error}"
            raise PagingEndedError(msg) from error
        _wait(
            lambda: self._manager.batch_processor or not self._manager.is_running(), _START_SECONDS
        )
        if not self._manager.is_running():
            self._see_death([])

    def _start(self, request: Request) -> None:
        name = f"{request.index}.{next(self._names)}"
        row = row_of(request, self._eos, self._open_tokenizer)
        self._rows[name] = self._chooser.rows[name] = row
        taken = self._manager.add_request(
            request.input_ids.tolist(),
            request_id=name,
            max_new_tokens=request.output_tokens,
            eos_token_id=sorted(row.stops) or -1,
        )
        if taken != name:  # it takes nothing more: the next step sees why
            self._see_death([])

    def _outputs(self) -> list[Any]:
        """What is there, after waiting a moment for the first; a stop string may end a request without an output."""
        if not self._chooser.stopped.empty():
            return []
        found = []
        output = self._manager.get_result(timeout=_WAIT_SECONDS)
        while output is not None:
            found.append(output)
            output = None if _is_empty(self._manager) else self._manager.get_result(timeout=0.001)
        return found

    def _end(self, name: str, output: Any) -> Ended:
        row = self._rows.pop(name)
        self._chooser.forget(name)
        self._free += self._blocks_of(row.request)
        if output is None:
            self._manager.cancel_request(name)
        if output is None or row.output_ids:  # the chooser has kept its tokens
            return row.answer()
        return Ended(request=row.request, output_ids=list(output.generated_tokens), logprobs=[])

    def _see_death(self, failed: list[str]) -> None:
        """Raise with the manager's reason: its failures come before its thread has ended."""
        _wait(lambda: not self._manager.is_running(), _DEATH_SECONDS)
        status = getattr(self._manager, "background_thread_status", None)
        why = getattr(status, "fatal_error", None)
        said = failed[0] if failed else "its thread has ended"
        msg = f"transformers' continuous batching ended: {why or said}"
        raise PagingEndedError(msg) from why

    def _blocks_of(self, request: Request) -> int:
        return self._pages.blocks_of(len(request.input_ids) + request.output_tokens)


def _drained(queue: SimpleQueue[str]) -> list[str]:
    found = []
    try:
        while True:
            found.append(queue.get_nowait())
    except Empty:
        return found


def _is_empty(manager: Any) -> bool:
    return bool(manager.output_router.output_queue.empty())


def _wait(condition: Callable[[], object], seconds: float) -> None:
    """Until it is so, or the time is over; whoever waits looks again."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
