"""The TensorRT-LLM engine: a built engine, through TensorRT-LLM's ModelRunner, with in-flight batching."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

from msgspec import structs

from trt_dp.engines.about import Room
from trt_dp.engines.gpu_sharing import Seat
from trt_dp.engines.trtllm import advice
from trt_dp.engines.trtllm import load as trtllm_load
from trt_dp.engines.trtllm.differences import compare
from trt_dp.engines.trtllm.folder import (
    Model,
    check_devices,
    check_options,
    check_request,
    check_version,
    is_engine,
    limits,
    read_engine,
)
from trt_dp.engines.trtllm.inflight import Inflight
from trt_dp.engines.trtllm.library import engine_library
from trt_dp.engines.trtllm.load import Loader, Ranks, Scheduler, SessionSettings
from trt_dp.engines.trtllm.ranks import LiveRanks
from trt_dp.engines.trtllm.sampling import SAMPLES, check_sampling, check_static
from trt_dp.engines.trtllm.static import Static
from trt_dp.engines.trtllm.stop_ids import stop_ids
from trt_dp.errors import EngineRefused, RequestRefused, UsageError
from trt_dp.types import EngineSpec, Facts, Placement, Request, Result

Mode = Literal["inflight", "static"]
_log = logging.getLogger(__name__)


class TrtllmEngine:
    """A TensorRT-LLM engine on the GPUs of its worker: loaded, answering, closed.

    With several GPUs TensorRT-LLM starts a process for each itself (ranks=spawn), unless an MPI launcher
    has started one for each, this being one of them (ranks=mpi; `auto` looks). Then all of them make a
    TrtllmEngine with the same options, the one of rank 0 is used like any engine, and the others are closed
    as soon as they are made: `close` returns when rank 0 closes.

    An answer ends before the first stop id, which is not part of it.
    """

    needs_folder = True
    needs_gpu = True
    samples = SAMPLES
    packages = ("tensorrt-llm", "tensorrt", "torch", "transformers", "mpi4py")

    def __init__(
        self,
        spec: EngineSpec,
        placement: Placement,
        *,
        loader: Loader = "runner",
        mode: Mode = "inflight",
        ranks: Ranks = "auto",
        max_batch_size: int = 0,
        max_num_tokens: int = 0,
        kv_fraction: float = 0.9,
        max_kv_tokens: int = 0,
        host_cache_mb: int = 0,
        block_reuse: bool = False,
        chunked_context: bool | None = None,
        scheduler: Scheduler = "guaranteed_no_evict",
        cuda_graphs: bool = False,
        window: int = 0,
        silence_seconds: int = 600,
        any_version: bool = False,
    ) -> None:
        _check_numbers(
            kv_fraction,
            max_batch_size=max_batch_size,
            max_num_tokens=max_num_tokens,
            max_kv_tokens=max_kv_tokens,
            host_cache_mb=host_cache_mb,
            window=window,
            silence_seconds=silence_seconds,
        )
        self._model = model = read_engine(spec.path)
        check_devices(model, len(placement.devices))
        chunked = model.paged_context if chunked_context is None else chunked_context
        check_options(model, max_batch_size, chunked=chunked, max_num_tokens=max_num_tokens)
        self._limits = limits(model, chunked=chunked, max_num_tokens=max_num_tokens)
        spawn, rank = trtllm_load.place(ranks, model)
        self._settings = SessionSettings(
            loader=loader,
            max_batch_size=max_batch_size or model.max_batch_size,
            max_input_len=self._limits.max_input,
            kv_fraction=kv_fraction,
            max_kv_tokens=max_kv_tokens,
            block_reuse=block_reuse,
            chunked_context=chunked,
            scheduler=scheduler,
            max_num_tokens=max_num_tokens,
            host_cache_mb=host_cache_mb,
            cuda_graphs=cuda_graphs,
            spawn=spawn,
            rank=rank,
        )
        trtllm_load.check_loader(self._settings)
        _check_mode(mode, loader)
        _check_sharing(placement, model, spawn=spawn)
        self._mode = mode
        self._silence_seconds = silence_seconds
        self._eos = stop_ids(model.folder)
        self.capacity = window or _window(model, self._settings)
        self._seat = Seat(placement.devices, placement.sharers)
        self._load(any_version=any_version)

    @staticmethod
    def recognises(folder: Path) -> bool:
        """Whether trtllm-build made this folder."""
        return is_engine(folder)

    @staticmethod
    def why_not() -> str | None:
        """What keeps TensorRT engines from being loaded here, if anything does."""
        try:
            engine_library()
        except EngineRefused as refused:
            return str(refused)
        return None

    @staticmethod
    def differences() -> list[str]:
        """How the installed TensorRT-LLM differs from the one this was written for."""
        return list(compare())

    @staticmethod
    def advice(folder: Path | None, room: Room) -> list[str]:
        """What would go wrong in a run here, and what to do."""
        return advice.of_engine(folder, room) if folder else advice.of_any_engine()

    def submit(self, request: Request) -> None:
        """Take a request; raises RequestRefused for one beyond what the engine was built for."""
        check_request(request, self._limits)
        check_sampling(request.sampling)
        if self._mode == "static":
            check_static(request.sampling)
        if request.sampling.logprobs is not None and self._settings.loader == "runner":
            msg = "`logprobs` are beyond TensorRT-LLM's ModelRunner: add --set loader=executor"
            raise RequestRefused(msg)
        self._driver.submit(request)

    def step(self) -> list[Result]:
        """Let TensorRT-LLM work, and return what is answered; returns within a moment when nothing is."""
        results = self._driver.step()
        if not results:
            self._ranks.check()
        silent = self._driver.silent_seconds()
        if not results and silent > self._silence_seconds:
            msg = (
                f"TensorRT-LLM has shown no sign of life for {silent:.0f} s (--set silence_seconds)"
            )
            raise RuntimeError(msg)
        return results

    def facts(self) -> Facts:
        """How it runs; once it has run, also how full its batches and its cache were."""
        settings = self._settings
        return {
            "tensorrt_llm": self._version,
            "mode": self._mode,
            "loader": settings.loader,
            "gpus": self._model.world_size,
            "max_batch_size": settings.max_batch_size,
            "window": self.capacity,
            "kv_fraction": round(self._kv_fraction, 4),
            "scheduler": settings.scheduler,
            "chunked_context": "on" if settings.chunked_context else "off",
            "block_reuse": "on" if settings.block_reuse else "off",
            **self._driver.facts(),
        }

    def close(self) -> None:
        """Free the model; on a rank other than 0, wait for rank 0 to do so."""
        self._loaded.session.shutdown()
        self._seat.leave()

    def _load(self, *, any_version: bool) -> None:
        library = engine_library()
        self._version = library.version
        if not any_version:
            check_version(self._model, library.version)
        settings = self._settings
        with self._seat.loading(settings.kv_fraction, self._model.weights) as fraction:
            self._kv_fraction = fraction
            _log.info("the KV cache takes %.3f of the memory that the weights leave free", fraction)
            share = structs.replace(settings, kv_fraction=fraction)
            self._loaded = trtllm_load.load(library, self._model, share)
        self._ranks = LiveRanks()
        session = self._loaded.session
        inflight = Inflight(library.bindings, session, self._eos)
        self._driver: Inflight | Static = inflight
        if self._mode == "static":
            size = settings.max_batch_size
            self._driver = Static(self._loaded.runner, inflight, self._eos, size)


def _window(model: Model, settings: SessionSettings) -> int:
    """Two full loads: one in the engine, one that waits inside it, so that a place that becomes free is filled at once.

    The engine holds a batch for each stage of its pipeline. More would only lengthen the run's tail.
    """
    return 2 * settings.max_batch_size * model.stages


def _check_numbers(kv_fraction: float, **numbers: int) -> None:
    if not 0 < kv_fraction < 1:
        msg = f"--set kv_fraction={kv_fraction}: it must be above 0 and below 1"
        raise UsageError(msg)
    for name, number in numbers.items():
        if number < 0:
            msg = f"--set {name}={number}: it must be 0 (automatic) or more"
            raise UsageError(msg)


def _check_mode(mode: Mode, loader: Loader) -> None:
    if mode == "static" and loader == "executor":
        msg = "mode=static is TensorRT-LLM's ModelRunner.generate: remove loader=executor"
        raise UsageError(msg)


def _check_sharing(placement: Placement, model: Model, *, spawn: bool) -> None:
    if placement.sharers > 1 and model.world_size > 1 and not spawn:
        msg = "ranks=mpi cannot share GPUs, since its ranks must load together: use --workers-per-gpu 1"
        raise EngineRefused(msg)
