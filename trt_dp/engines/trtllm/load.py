"""Loading a TensorRT-LLM engine: by its ModelRunner, or by the Executor under it where a wish needs that.

Both give the same Executor, which is then driven directly. Names and defaults are those of TensorRT-LLM
1.0 to 1.2 (tensorrt_llm/runtime/model_runner_cpp.py, cpp/tensorrt_llm/nanobind/executor/executorConfig.cpp);
what a later one of these added is not used.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any, Literal

from msgspec import Struct

from trt_dp.engines.trtllm import ranks
from trt_dp.engines.trtllm.folder import Model
from trt_dp.engines.trtllm.library import Library, first_line
from trt_dp.errors import EngineRefused, UsageError

Loader = Literal["runner", "executor"]
Ranks = Literal["auto", "spawn", "mpi"]
Scheduler = Literal["guaranteed_no_evict", "max_utilization"]
_MIB = 2**20


class SessionSettings(Struct, frozen=True):
    """How to load; all of it is decided before."""

    loader: Loader
    max_batch_size: int
    max_input_len: (
        int  # what the runtime takes; the engine's own number is often smaller, and unused there
    )
    kv_fraction: float
    max_kv_tokens: int  # 0: as many as fit
    block_reuse: bool
    chunked_context: bool
    scheduler: Scheduler
    max_num_tokens: int  # 0: the engine's
    host_cache_mb: int
    cuda_graphs: bool
    spawn: bool  # TensorRT-LLM starts a process for each GPU itself
    rank: int  # of this process, where an MPI launcher has started one for each GPU


class Loaded(Struct, frozen=True):
    """A loaded engine: the Executor, and the ModelRunner around it if that has loaded it."""

    session: Any
    runner: Any = None


def place(how: Ranks, model: Model) -> tuple[bool, int]:
    """Whether TensorRT-LLM starts the ranks itself; otherwise, which rank of the MPI launcher this process is."""
    size, rank = world()
    if how == "auto":
        how = "mpi" if size > 1 else "spawn"
    if how == "spawn":
        if size > 1:
            msg = f"ranks=spawn needs a process without MPI, and this is one of {size} MPI ranks: remove it"
            raise EngineRefused(msg)
        return model.world_size > 1, 0
    if size != model.world_size:
        msg = (
            f"ranks=mpi: {model.folder} was built for {model.world_size} ranks, and MPI has started {size}: "
            "start as many as it was built for, or start the worker without MPI"
        )
        raise EngineRefused(msg)
    return False, rank


def check_loader(settings: SessionSettings) -> None:
    """Raises UsageError for a wish that the ModelRunner cannot pass on."""
    wishes = {
        "scheduler": settings.scheduler != "guaranteed_no_evict",
        "max_num_tokens": bool(settings.max_num_tokens),
        "host_cache_mb": bool(settings.host_cache_mb),
    }
    beyond = [name for name, wished in wishes.items() if wished]
    if beyond and settings.loader == "runner":
        msg = f"--set {beyond[0]} is beyond TensorRT-LLM's ModelRunner: add --set loader=executor"
        raise UsageError(msg)


def load(library: Library, model: Model, settings: SessionSettings) -> Loaded:
    """Load the engine; raises EngineRefused with TensorRT-LLM's reason. On all but the first rank as well."""
    how = _by_runner if settings.loader == "runner" else _by_executor
    if settings.spawn:
        ranks.check_can_start(library.worker_executable, model.world_size)
    try:
        with ranks.watched() if settings.spawn else contextlib.nullcontext():
            return how(library, model, settings)
    except (RuntimeError, AssertionError, ValueError, TypeError, AttributeError, OSError) as error:
        msg = f"TensorRT-LLM {library.version} cannot load {model.folder}: {first_line(error)}"
        raise EngineRefused(msg) from error


def _by_runner(library: Library, model: Model, settings: SessionSettings) -> Loaded:
    runner = library.runner.from_dir(
        engine_dir=str(model.folder),
        rank=settings.rank,
        max_batch_size=settings.max_batch_size,
        max_input_len=settings.max_input_len,
        kv_cache_free_gpu_memory_fraction=settings.kv_fraction,
        max_tokens_in_paged_kv_cache=settings.max_kv_tokens or None,
        kv_cache_enable_block_reuse=settings.block_reuse,
        enable_chunked_context=settings.chunked_context,
        cuda_graph_mode=settings.cuda_graphs or None,
        is_orchestrator_mode=settings.spawn,
    )
    return Loaded(getattr(runner, "session", None) or runner.executor, runner)


def _by_executor(library: Library, model: Model, settings: SessionSettings) -> Loaded:
    api = library.bindings
    wished: dict[str, Any] = {}
    if settings.cuda_graphs:
        knobs = api.ExtendedRuntimePerfKnobConfig()
        knobs.cuda_graph_mode = True
        wished["extended_runtime_perf_knob_config"] = knobs
    policy = getattr(api.CapacitySchedulerPolicy, settings.scheduler.upper())
    config = api.ExecutorConfig(
        max_beam_width=1,
        scheduler_config=api.SchedulerConfig(capacity_scheduler_policy=policy),
        kv_cache_config=api.KvCacheConfig(
            enable_block_reuse=settings.block_reuse,
            max_tokens=settings.max_kv_tokens or None,
            free_gpu_memory_fraction=settings.kv_fraction,
            host_cache_size=settings.host_cache_mb * _MIB or None,
        ),
        enable_chunked_context=settings.chunked_context,
        normalize_log_probs=False,  # among all ids, not among the few that were left to choose from
        max_batch_size=settings.max_batch_size,
        max_num_tokens=settings.max_num_tokens or None,
        parallel_config=_parallel(library, spawn=settings.spawn),
        **wished,
    )
    session = api.Executor(
        model_path=model.folder, model_type=api.ModelType.DECODER_ONLY, executor_config=config
    )
    return Loaded(session)


def _parallel(library: Library, *, spawn: bool) -> Any:
    """How the ranks talk; by MPI either way, started by TensorRT-LLM or already there."""
    api = library.bindings
    if not spawn:
        return api.ParallelConfig(
            communication_type=api.CommunicationType.MPI,
            communication_mode=api.CommunicationMode.LEADER,
        )
    return api.ParallelConfig(
        communication_type=api.CommunicationType.MPI,
        communication_mode=api.CommunicationMode.ORCHESTRATOR,
        orchestrator_config=api.OrchestratorConfig(
            is_orchestrator=True, worker_executable_path=str(library.worker_executable)
        ),
    )


def world() -> tuple[int, int]:
    """The size of the MPI world that a launcher has put this process in, and its rank there; 1 and 0 without."""
    for size, rank in (
        ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
        ("PMI_SIZE", "PMI_RANK"),
    ):
        if size in os.environ:
            return int(os.environ[size]), int(os.environ.get(rank, "0"))
    return 1, 0
