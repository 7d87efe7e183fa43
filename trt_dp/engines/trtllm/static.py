"""Static batches by ModelRunnerCpp.generate, to compare with: a batch starts together and waits for its last."""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from trt_dp.engines.trtllm import library as trtllm_library
from trt_dp.engines.trtllm.inflight import Ending, Inflight, ending_of, problem_of
from trt_dp.engines.trtllm.library import first_line
from trt_dp.errors import RequestRefused
from trt_dp.types import Facts, Failure, Request, Result

_WAIT_SECONDS = 0.1
_log = logging.getLogger(__name__)


class Static:
    """Requests in batches of one output length and one set of stop ids: waiting, in the batch that runs, answered.

    `generate` takes one length for a batch and loses all of it when one request fails. The requests of a lost
    batch run again through the Executor directly, where each has its own reason, and the facts count such
    batches as failed_batches: they are no static baseline. `generate` blocks for as long as a batch takes,
    so it runs in a thread.
    """

    def __init__(
        self, runner: Any, inflight: Inflight, eos: tuple[int, ...], batch_size: int
    ) -> None:
        self._runner = runner
        self._inflight = inflight
        self._eos = eos
        self._batch_size = batch_size
        self._torch = trtllm_library.torch()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="trtllm-static")
        self._waiting: list[Request] = []
        self._batch: list[Request] = []
        self._running: Future[list[list[int]]] | None = None
        self._again = 0
        self._batches = self._sequences = self._failed = 0
        self._started = time.monotonic()

    def submit(self, request: Request) -> None:
        """Take a request."""
        self._waiting.append(request)

    def step(self) -> list[Result]:
        """Start a batch if none runs, and give its answers once it has ended."""
        if self._again:
            results = self._inflight.step()
            self._again -= len(results)
            return results
        if self._running is None:
            self._start()
        return self._collect()

    def silent_seconds(self) -> float:
        """For how long the batch, or what is left of it, has run."""
        return self._inflight.silent_seconds() if self._again else time.monotonic() - self._started

    def facts(self) -> Facts:
        """How many batches there were, how full they were, and how many fell apart."""
        if not self._batches:
            return {}
        mean = round(self._sequences / self._batches, 1)
        facts: Facts = {"iterations": self._batches, "mean_batch": mean}
        return {**facts, "failed_batches": self._failed} if self._failed else facts

    def _start(self) -> None:
        length, ending = self._shape(self._waiting[0])
        alike = [request for request in self._waiting if self._shape(request) == (length, ending)]
        self._batch = alike[: self._batch_size]
        chosen = {request.index for request in self._batch}
        self._waiting = [request for request in self._waiting if request.index not in chosen]
        self._batches += 1
        self._sequences += len(self._batch)
        self._started = time.monotonic()
        self._running = self._thread.submit(self._generate, self._batch, length, ending)

    def _generate(self, batch: list[Request], length: int, ending: Ending) -> list[list[int]]:
        """The new tokens of each; the sequences that come back begin with the prompts and end in padding."""
        made = self._runner.generate(
            batch_input_ids=[
                self._torch.tensor(request.input_ids.tolist(), dtype=self._torch.int32)
                for request in batch
            ],
            max_new_tokens=length,
            end_id=ending.end_id,
            pad_id=ending.pad_id,
            return_dict=True,
            output_sequence_lengths=True,
            stop_words_list=_stop_words(ending, len(batch)),
            top_k=1,
        )
        sequences, lengths = made["output_ids"].tolist(), made["sequence_lengths"].tolist()
        return [
            sequence[0][len(request.input_ids) : ends[0]]
            for request, sequence, ends in zip(batch, sequences, lengths, strict=True)
        ]

    def _shape(self, request: Request) -> tuple[int, Ending]:
        """What all requests of a batch have in common."""
        return request.output_tokens, ending_of(request, self._eos)

    def _collect(self) -> list[Result]:
        ended, _ = wait([self._running] if self._running else [], timeout=_WAIT_SECONDS)
        if not ended:
            return []
        batch, self._batch, self._running = self._batch, [], None
        try:
            answers = ended.pop().result()
        except Exception as error:  # noqa: BLE001  whatever it was, each request is asked for its own reason
            return self._one_by_one(batch, error)
        return [self._result(request, ids) for request, ids in zip(batch, answers, strict=True)]

    def _one_by_one(self, batch: list[Request], error: Exception) -> list[Result]:
        self._failed += 1
        _log.warning(
            "a static batch failed, so its %d requests run in flight instead: %s",
            len(batch),
            first_line(error),
        )
        refused = [result for request in batch if (result := self._retry(request)) is not None]
        self._again = len(batch) - len(refused)
        return refused

    def _retry(self, request: Request) -> Result | None:
        try:
            self._inflight.submit(request)
        except RequestRefused as reason:
            return Result(request.index, error=Failure("refused", str(reason)))
        return None

    def _result(self, request: Request, ids: list[int]) -> Result:
        reason = "length" if len(ids) == request.output_tokens else "stop"
        ending = ending_of(request, self._eos)
        problem = problem_of(request, len(ids), reason, stopping=bool(ending.stops))
        if problem:
            return Result(request.index, error=Failure("engine_error", problem))
        return ending.result(request.index, ids, reason)


def _stop_words(ending: Ending, count: int) -> list[list[list[int]]] | None:
    more = [[one] for one in ending.words]
    return [more] * count if more else None
