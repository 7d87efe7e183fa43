"""The engine `transformers`: a Hugging Face checkpoint as it is, on a CPU or a GPU, by PyTorch."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from msgspec import Struct

from trt_dp.engines import gpu_memory
from trt_dp.engines.about import Room
from trt_dp.engines.cpu.decoder import Ended
from trt_dp.engines.cpu.memory import available_bytes
from trt_dp.engines.transformers.asked import check_request
from trt_dp.engines.transformers.decoder import Decoder
from trt_dp.engines.transformers.folder import Checkpoint, is_checkpoint, read_checkpoint
from trt_dp.engines.transformers.loading import Loaded, Place, load
from trt_dp.engines.transformers.memory import check_weights
from trt_dp.engines.transformers.settings import Dtype, Mode, Settings, check
from trt_dp.errors import EngineRefused
from trt_dp.tokenizer import Tokenizer, holds_tokenizer, open_tokenizer
from trt_dp.types import EngineSpec, Facts, Failure, Placement, Request, Result, Returned, Timing

_MOST_DEATHS = 3  # in a row, without an answer between: then the process itself must be in trouble
_MOST_HALVINGS = 9  # and where memory runs out: each makes the batches smaller
_OTHERS = (
    "tensorrt_llm",
    "vllm",
)  # faster on a checkpoint: where one is installed, this engine must be named
_log = logging.getLogger(__name__)
_Outcome = Result | Returned


class TransformersEngine:
    """Answers with any causal language model; a request waits here, is decoded to its end, and is not interrupted.

    Each request has its own random stream, so an answer depends on what is decoded beside it only by the rounding of
    the model's sums. When decoding breaks, what was in progress is given back, and decoding begins anew.
    """

    needs_folder = True
    samples = frozenset(
        {
            *("temperature", "top_k", "top_p", "min_p", "seed", "min_tokens", "logprobs"),
            *("repetition_penalty", "presence_penalty", "frequency_penalty"),
        }
    )
    packages = ("transformers", "torch")

    def __init__(
        self,
        spec: EngineSpec,
        placement: Placement,
        *,
        mode: Mode = "auto",
        dtype: Dtype = "auto",
        attention: str = "",
        max_sequences: int = 0,
        max_batched_tokens: int = 0,
        kv_cache_mb: int = 0,
        memory_fraction: float = 0.9,
        page_size: int = 0,
        cuda_graph: bool = False,
        threads: int = 0,
        trust_remote_code: bool = False,
    ) -> None:
        settings = Settings(
            mode=mode,
            dtype=dtype,
            attention=attention,
            max_sequences=max_sequences,
            max_batched_tokens=max_batched_tokens,
            kv_cache_mb=kv_cache_mb,
            memory_fraction=memory_fraction,
            page_size=page_size,
            cuda_graph=cuda_graph,
            threads=threads or len(placement.cores),
            trust_remote_code=trust_remote_code,
        )
        check(settings)
        self._checkpoint = read_checkpoint(spec.path)
        self._library = _library()
        place = Place(placement=placement, settings=settings, open_tokenizer=self._tokenizer)
        self._loaded: Loaded = load(self._library, self._checkpoint, place)
        self._decoder: Decoder = self._loaded.decoder
        self.capacity = self._loaded.limits.max_sequences + self._decoder.lookahead
        self.kv_tokens = self._loaded.limits.room
        if self._checkpoint.positions:
            self.context = self._checkpoint.positions
        self._waiting: deque[Request] = deque()
        self._in_flight: dict[int, _Progress] = {}
        self._deaths = self._deaths_in_all = 0

    @staticmethod
    def recognises(folder: Path) -> bool:
        """Whether this is a checkpoint, its library is installed, and no faster one for checkpoints is."""
        ours = all(map(find_spec, ("torch", "transformers"))) and not any(map(find_spec, _OTHERS))
        return ours and is_checkpoint(folder)

    @staticmethod
    def why_not() -> str | None:
        """What keeps PyTorch or transformers from being loaded here, if anything does."""
        try:
            _library()
        except EngineRefused as refused:
            return str(refused)
        return None

    @staticmethod
    def advice(folder: Path | None, room: Room) -> list[str]:
        """What would go wrong in a run here, and what to do."""
        said = []
        if room.gpus and not _library().gpus():
            said.append(
                "PyTorch here sees no GPU: install a build of it for CUDA (pip install torch)"
            )
        if folder is not None:
            try:
                _check_memory(read_checkpoint(str(folder)), room)
            except EngineRefused as refused:
                said.append(str(refused))
        return said

    @staticmethod
    def differences() -> list[str]:
        """How the installed transformers differs from the one that this engine was written for."""
        from trt_dp.engines.transformers import differences  # noqa: PLC0415 - it loads the library

        return differences.found()

    def submit(self, request: Request) -> None:
        """Take a request; raises RequestRefused for one that the model or the cache cannot hold."""
        check_request(request, self._loaded.bounds)
        self._in_flight[request.index] = _Progress(request, time.monotonic())
        self._waiting.append(request)

    def step(self) -> list[_Outcome]:
        """Start what has room, and work for a moment; if that breaks, give back what was in progress."""
        try:
            if self._waiting:
                self._admit()
            step = self._decoder.step()
        except Exception as error:  # noqa: BLE001  models and PyTorch raise anything; the reason goes with the requests
            return self._give_back(error)
        now = time.monotonic()
        for index in step.first:
            self._in_flight[index].first = now
        if step.ended:
            self._deaths = 0
        return [self._result(ended, now) for ended in step.ended]

    def facts(self) -> Facts:
        """How it runs; once it has run, also how full its batches were."""
        facts = {**self._loaded.facts, **self._decoder.facts()}
        if self._deaths_in_all:
            facts["decoding_began_anew"] = self._deaths_in_all
        return facts

    def close(self) -> None:
        """Free the model."""
        self._decoder.close()
        self._loaded.seat.leave()

    @cache  # noqa: B019 - an engine lives as long as its process
    def _tokenizer(self) -> Tokenizer | None:
        """The model's own, opened once a request has stop strings."""
        folder = self._checkpoint.folder
        return open_tokenizer(str(folder)) if holds_tokenizer(folder) else None

    def _admit(self) -> None:
        now = time.monotonic()
        for request in self._decoder.take(self._waiting):
            self._in_flight[request.index].admitted = now

    def _give_back(self, error: Exception) -> list[_Outcome]:
        """Begin decoding anew; raises where that does not help."""
        self._deaths += 1
        self._deaths_in_all += 1
        waiting = {request.index for request in self._waiting}
        lost = [index for index in self._in_flight if index not in waiting]
        smaller = self._library.is_out_of_memory(error)
        if self._deaths > (_MOST_HALVINGS if smaller else _MOST_DEATHS) or not lost:
            raise error
        _log.warning("decoding broke with %d requests in progress: %s", len(lost), error)
        self._decoder.restart(smaller=smaller)
        for index in lost:
            del self._in_flight[index]
        reason = f"decoding broke: {_brief(error)}"
        return [Returned(index, reason, "batch") for index in lost]

    def _result(self, ended: Ended, now: float) -> Result:
        request, ids = ended.request, ended.output_ids
        timing = self._in_flight.pop(request.index).timing(now)
        problem = _problem(request, ids, self._loaded.bounds.eos)
        if problem:
            return Result(request.index, error=Failure("engine_error", problem), timing=timing)
        last, sampling = ids[-1], request.sampling
        is_eos = last in self._loaded.bounds.eos and not sampling.ignore_eos
        stopped = is_eos or last in sampling.stop_token_ids
        kept = len(ids) - stopped
        logprobs = [round(value, 5) for value in ended.logprobs[:kept]]
        return Result(
            index=request.index,
            output_ids=ids[:kept],
            finish_reason="stop" if stopped else "length",
            timing=timing,
            stop_reason=last if stopped and not is_eos else None,
            logprobs=None if sampling.logprobs is None else logprobs,
        )


class _Progress(Struct):
    """When a request in flight came, was admitted and had its first token, by this process's clock."""

    request: Request
    submitted: float
    admitted: float = 0.0
    first: float = 0.0

    def timing(self, now: float) -> Timing:
        return Timing(
            round((self.admitted or now) - self.submitted, 6),
            round((self.first or now) - self.submitted, 6),
            round(now - self.submitted, 6),
        )


def _problem(request: Request, ids: list[int], eos: frozenset[int]) -> str | None:
    """What is wrong with an answer that ended too early."""
    sampling = request.sampling
    stops = set(sampling.stop_token_ids) | (set() if sampling.ignore_eos else eos)
    whole = len(ids) == request.output_tokens or (ids and ids[-1] in stops)
    if whole or (ids and sampling.stop):
        return None
    return f"transformers ended it after {len(ids)} of {request.output_tokens} tokens"


def _brief(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _check_memory(checkpoint: Checkpoint, room: Room) -> None:
    weights = checkpoint.weights_as("auto" if room.gpus else "float32")
    if room.gpus:
        gpu_memory.check_fit(room.sharers, weights, gpu_memory.free(room.gpus))
    else:
        check_weights(weights, available_bytes(), "on this machine")


@cache
def _library() -> ModuleType:
    """The module that imports PyTorch and transformers: only once an engine is made, since it takes seconds."""
    os.environ.setdefault(
        "OMP_WAIT_POLICY", "PASSIVE"
    )  # threads that wait in a loop take cores from other workers
    try:
        from trt_dp.engines.transformers import model  # noqa: PLC0415 - see above
    except ImportError as error:
        raise EngineRefused(str(error)) from error
    return model
