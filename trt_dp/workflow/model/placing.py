"""Where the workers of a text_prompt node run: on this machine's devices, or on none where they drive servers."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from trt_dp import plugins
from trt_dp.coordinator.places import places
from trt_dp.engines.about import targets
from trt_dp.errors import UsageError
from trt_dp.placement.plan import Plan, plan
from trt_dp.types import EngineSpec
from trt_dp.workflow.checks import refuse
from trt_dp.workflow.contract import Scope
from trt_dp.workflow.model.engine_options import Workers

_PARALLEL = "vllm_dp"


class Asked(Struct, frozen=True, kw_only=True):
    """What a node says of its engine, and where."""

    inference_engine: str
    model_name: str
    options: dict[str, Any]
    place: str


class Placed(Struct, frozen=True):
    """The place of each worker, and what a user should know of it."""

    plan: Plan
    gpus_per_worker: int | None
    notes: tuple[str, ...] = ()


def place(asked: Asked, engine: EngineSpec, options: Workers, scope: Scope) -> Placed:
    """The places that a node asks for, or fewer; raises UsageError where there is none."""
    where = f"{asked.place}.engine_options"
    try:
        if targets(plugins.find(plugins.ENGINES, engine.name), engine.options) is not None:
            workers = scope.wishes.workers or options.data_parallel_size
            return Placed(places(engine, (workers, None, 1)), None)
    except UsageError as error:
        refuse(where, str(error))
    workers, per_worker, notes = _fit(asked, options, scope)
    try:
        return Placed(plan(scope.machine, workers, per_worker), per_worker, tuple(notes))
    except UsageError as error:
        refuse(where, str(error))


def _fit(asked: Asked, options: Workers, scope: Scope) -> tuple[int | None, int | None, list[str]]:
    """Workers, and GPUs for each; fewer workers where there is no room, or a refusal with --strict."""
    gpus, cores = scope.machine.gpus, scope.machine.cores
    per, notes = _gpus_each(asked, options)
    wanted = scope.wishes.workers or _wanted(asked, options)
    room = len(gpus) // per if gpus else len(cores)
    place = f"{asked.place}.engine_options"
    if gpus and not room:
        refuse(place, f"each worker needs {per} GPUs, and this machine has {len(gpus)}")
    if not gpus and per > 1:
        notes.append(
            f"gpus_per_dp_rank is {per}, and this machine has no GPU: workers share its cores"
        )
    if wanted is not None and wanted > room:
        what = f"{len(gpus)} GPUs" if gpus else f"no GPU and {len(cores)} CPU cores"
        told = f"{wanted} workers are asked for, and this machine has {what}"
        if scope.wishes.strict:
            refuse(place, f"{told}: room for {room}")
        notes.append(f"{told}: {room} run")
        wanted = room
    return wanted, per if gpus else None, notes


def _wanted(asked: Asked, options: Workers) -> int | None:
    """So many workers; None: as many as the machine has room for."""
    if not options.enable_data_parallel:
        return 1
    if options.data_parallel_size is None and asked.inference_engine == _PARALLEL:
        return 2
    return options.data_parallel_size


def _gpus_each(asked: Asked, options: Workers) -> tuple[int, list[str]]:
    ranks, tensor = options.gpus_per_dp_rank, options.tensor_parallel_size
    if asked.inference_engine == _PARALLEL and tensor is not None and tensor != (ranks or 1):
        note = f"tensor_parallel_size {tensor} has no effect: gpus_per_dp_rank says {ranks or 1}"
        return ranks or 1, [note]
    return ranks or tensor or 1, []
