"""The embedded engine: a model that `trt-dp build` made, on the CPU, by OpenVINO."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Literal

from msgspec import Struct

from trt_dp.engines.cpu.decoder import (
    BLOCK,
    Decoder,
    DecoderSettings,
    Ended,
    Facts,
    Precision,
    stops_of,
)
from trt_dp.engines.cpu.folder import GRAPH, Model, read_model
from trt_dp.engines.cpu.memory import cache_share
from trt_dp.engines.cpu.static import Static
from trt_dp.errors import EngineRefused, RequestRefused, UsageError
from trt_dp.tokenizer import Tokenizer, holds_tokenizer, open_tokenizer
from trt_dp.types import EngineSpec, Failure, Placement, Progress, Request, Result, Sampling, Timing

Mode = Literal["auto", "paged", "static"]
_MIB = 2**20
_LEAST_BLOCKS = 64
_LEAST_TEMPERATURE = 1e-6
_log = logging.getLogger(__name__)


class CpuEngine:
    """Answers with a real model; a request waits here, is decoded to its end, and is never interrupted.

    In exact precision an answer depends on the request alone, not on what is decoded with it; sampled
    ones too, since each request has its own random stream.
    """

    needs_folder = True
    samples = frozenset(
        {
            *("temperature", "top_k", "top_p", "min_p", "seed", "min_tokens", "logprobs"),
            *("repetition_penalty", "presence_penalty", "frequency_penalty"),
        }
    )
    packages = ("openvino", "openvino-genai")

    def __init__(
        self,
        spec: EngineSpec,
        placement: Placement,
        *,
        precision: Precision = "exact",
        max_sequences: int = 128,
        max_batched_tokens: int = 512,
        kv_cache_mb: int = 0,
        prefix_caching: bool = False,
        threads: int = 0,
        mode: Mode = "auto",
    ) -> None:
        _check_positive(max_sequences=max_sequences, max_batched_tokens=max_batched_tokens)
        _check_positive(or_zero=True, kv_cache_mb=kv_cache_mb, threads=threads)
        self._model = read_model(spec.path)
        cores = len(placement.cores) or _usable_cores()
        value_bytes = 4 if precision == "exact" else 2
        block_bytes = BLOCK * self._model.cached_values * value_bytes
        blocks = _blocks(self._model, block_bytes, max_sequences, kv_cache_mb, cores)
        sequences = min(max_sequences, blocks)  # each needs a block at least
        _check_fit(precision, sequences, max_batched_tokens)
        self._settings = DecoderSettings(
            precision=precision,
            max_sequences=sequences,
            max_batched_tokens=max_batched_tokens,
            blocks=blocks,
            prefix_caching=prefix_caching,
            threads=threads or cores,
            eos=self._model.eos,
            open_tokenizer=self._tokenizer,
        )
        self._cache_mb = round(self._settings.blocks * block_bytes / _MIB)
        self._decoder = _load(self._model, self._settings, mode)
        self.capacity = sequences + self._decoder.lookahead
        self.context = self._model.positions
        self.kv_tokens = blocks * BLOCK
        self._waiting: deque[Request] = deque()
        self._in_flight: dict[int, _Progress] = {}

    @staticmethod
    def recognises(folder: Path) -> bool:
        """Whether this is a model that trt-dp build, or optimum, made for OpenVINO."""
        return (folder / GRAPH).is_file()

    @staticmethod
    def context_of(folder: Path) -> int:
        """The longest sequence of the model."""
        return read_model(str(folder)).positions

    @staticmethod
    def deterministic(options: Mapping[str, str]) -> bool:
        """In exact precision, an answer depends on its request alone."""
        return options.get("precision", "exact") == "exact"

    @staticmethod
    def why_not() -> str | None:
        """What keeps OpenVINO from being loaded here, if anything does."""
        try:
            _openvino()
        except EngineRefused as refused:
            return str(refused)
        return None

    def submit(self, request: Request) -> None:
        """Take a request; raises RequestRefused for one that the model or the cache cannot hold."""
        self._check(request)
        self._in_flight[request.index] = _Progress(time.monotonic())
        self._waiting.append(request)

    def step(self) -> list[Result]:
        """Start the requests that have room, and advance each running one by a token or a piece of its prompt."""
        if self._waiting:
            self._admit()
        step = self._decoder.step()
        now = time.monotonic()
        for index in step.first:
            self._in_flight[index].first = now
        return [self._result(ended, now) for ended in step.ended]

    def progress(self, indexes: AbstractSet[int]) -> list[Progress]:
        """What came of these answers since the last call."""
        return self._decoder.progress(indexes)

    def cancel(self, index: int) -> None:
        """Forget a request, whether it waits or is in progress."""
        del self._in_flight[index]
        left = [request for request in self._waiting if request.index != index]
        if len(left) == len(self._waiting):
            self._decoder.cancel(index)
        self._waiting = deque(left)

    def facts(self) -> Facts:
        """How it runs; once it has run, also how full its batches and its cache were."""
        settings = self._settings
        return {
            **self._decoder.facts(),
            "model_precision": self._model.precision,
            "threads": settings.threads,
            "max_sequences": settings.max_sequences,
            "max_batched_tokens": settings.max_batched_tokens,
            "kv_cache_mb": self._cache_mb,
            "kv_blocks": settings.blocks,
            "prefix_caching": "on" if settings.prefix_caching else "off",
        }

    def close(self) -> None:
        """Free the model."""
        del self._decoder

    @cache  # noqa: B019 - an engine lives as long as its process
    def _tokenizer(self) -> Tokenizer | None:
        """The model's own, opened once a request has stop strings."""
        folder = self._model.graph.parent
        return open_tokenizer(str(folder)) if holds_tokenizer(folder) else None

    def _check(self, request: Request) -> None:
        _check_sampling(request.sampling)
        ids, outputs = request.input_ids, request.output_tokens
        total, room = len(ids) + outputs, self._settings.blocks * BLOCK
        sizes = f"{len(ids)} input and {outputs} output tokens make {total}"
        if ids.min() < 0 or ids.max() >= self._model.vocabulary:
            wrong = ids.min() if ids.min() < 0 else ids.max()
            msg = f"`input_ids` holds {wrong}, and the model's vocabulary has {self._model.vocabulary} ids"
            raise RequestRefused(msg)
        if total > self._model.positions:
            msg = f"{sizes}, and the model's max_position_embeddings is {self._model.positions}"
            raise RequestRefused(msg)
        if total > room:
            msg = (
                f"{sizes}, and the KV cache of {self._cache_mb} MB holds {room}: --set kv_cache_mb"
            )
            raise RequestRefused(msg)

    def _admit(self) -> None:
        now = time.monotonic()
        for request in self._decoder.take(self._waiting):
            self._in_flight[request.index].admitted = now

    def _result(self, ended: Ended, now: float) -> Result:
        index, ids = ended.request.index, ended.output_ids
        timing = self._in_flight.pop(index).timing(now)
        if ended.problem:
            error = Failure("engine_error", ended.problem)
            return Result(index, error=error, timing=timing)
        last = ids[-1] if ids else None
        stopped = last in stops_of(ended.request, self._settings.eos)
        is_eos = last in self._settings.eos and not ended.request.sampling.ignore_eos
        kept = len(ids) - stopped
        logprobs = [round(value, 5) for value in ended.logprobs[:kept]]
        return Result(
            index=index,
            output_ids=ids[:kept],
            finish_reason="stop" if stopped else "length",
            timing=timing,
            stop_reason=last if stopped and not is_eos else None,
            logprobs=None if ended.request.sampling.logprobs is None else logprobs,
        )


class _Progress(Struct):
    """When a request in flight came, was admitted and had its first token, by this process's clock."""

    submitted: float
    admitted: float = 0.0
    first: float = 0.0

    def timing(self, now: float) -> Timing:
        return Timing(
            round(self.admitted - self.submitted, 6),
            round((self.first or now) - self.submitted, 6),
            round(now - self.submitted, 6),
        )


def _openvino() -> ModuleType:
    """The module that imports OpenVINO: only once an engine is made, since it takes a second."""
    try:
        from trt_dp.engines.cpu import pipeline  # noqa: PLC0415 - see above
    except ImportError as error:
        raise EngineRefused(str(error)) from error
    return pipeline


def _load(model: Model, settings: DecoderSettings, mode: Mode) -> Decoder:
    """The paged decoder; where OpenVINO has none for this CPU, or when asked, static batches."""
    openvino = _openvino()
    why = "asked for with mode=static"
    if mode != "static":
        try:
            return openvino.Paged(model.graph.parent, settings)  # type: ignore[no-any-return]
        except RuntimeError as error:
            why = _first_line(error)
            if mode == "paged":
                msg = f"OpenVINO cannot load {model.graph}: {why}"
                raise EngineRefused(msg) from error
        _log.warning("no paged attention, using static batches instead: %s", why)
    try:
        return Static(openvino.Stateful(model.graph, settings), settings, why)
    except RuntimeError as error:
        msg = f"OpenVINO cannot load {model.graph}: {_first_line(error)}"
        raise EngineRefused(msg) from error


def _first_line(error: RuntimeError) -> str:
    """The sentence in OpenVINO's message, which starts with the places in its source that it went through."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in reversed(lines) if line), type(error).__name__)


def _blocks(model: Model, block_bytes: int, sequences: int, given_mb: int, cores: int) -> int:
    """As many as all sequences could need, as far as this worker's share of the memory goes; or what was asked for."""
    if given_mb:
        return max(1, given_mb * _MIB // block_bytes)
    needed = sequences * -(-model.positions // BLOCK)
    share = cache_share(cores, model.weight_bytes) // block_bytes
    return min(needed, max(share, _LEAST_BLOCKS))


def _check_positive(*, or_zero: bool = False, **options: int) -> None:
    for name, value in options.items():
        if value < (0 if or_zero else 1):
            least = "0 (automatic) or more" if or_zero else "1 or more"
            msg = f"--set {name}={value}: it must be {least}"
            raise UsageError(msg)


def _check_fit(precision: Precision, sequences: int, tokens: int) -> None:
    """Where prompts are cut to fill steps, a step must have room for a token of every sequence."""
    if precision == "fast" and tokens < sequences:
        msg = f"--set max_batched_tokens={tokens} is below max_sequences, {sequences}: raise it, or lower that"
        raise UsageError(msg)


def _check_sampling(sampling: Sampling) -> None:
    if 0 < sampling.temperature < _LEAST_TEMPERATURE:
        msg = f"`temperature` is {sampling.temperature}: it must be 0 (greedy) or at least {_LEAST_TEMPERATURE}"
        raise RequestRefused(msg)
    if sampling.min_p == 1:
        msg = "`min_p` is 1: it must be below 1 (temperature 0 takes the most likely token)"
        raise RequestRefused(msg)


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
