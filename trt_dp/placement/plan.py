"""Which worker gets which GPUs or cores: decided from the machine alone, nothing is looked up here."""

from __future__ import annotations

from msgspec import Struct

from trt_dp.errors import PlacementError
from trt_dp.system.machine import Machine
from trt_dp.types import Placement

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_DEFAULT_CPU_WORKERS = 2


class Plan(Struct, frozen=True):
    """Where each worker goes, and notes for the user."""

    placements: tuple[Placement, ...]
    notes: tuple[str, ...]


def plan(machine: Machine, workers: int | None, per_worker: int | None, per_gpu: int = 1) -> Plan:
    """Divide the machine: `per_worker` GPUs for each worker, `per_gpu` workers on each; without GPUs, cores."""
    for name, number in (
        ("--n-workers", workers),
        ("--n-gpus", per_worker),
        ("--workers-per-gpu", per_gpu),
    ):
        if number is not None and number < 1:
            msg = f"{name} is {number}: it must be at least 1"
            raise PlacementError(msg)
    if machine.gpus:
        return _plan_gpus(machine, workers, per_worker or 1, per_gpu)
    return _plan_cores(machine.cores, workers, per_worker, per_gpu)


def plan_elsewhere(servers: int, workers: int | None) -> Plan:
    """For an engine that drives so many servers: a worker each, or more of them, and no device for any."""
    if not servers:
        msg = "no server is named: --endpoint http://HOST:PORT"
        raise PlacementError(msg)
    if workers is not None and workers < servers:
        msg = f"--n-workers is {workers}, and {servers} servers are named: each needs a worker of its own"
        raise PlacementError(msg)
    environment = {"CUDA_VISIBLE_DEVICES": "", **dict.fromkeys(_THREADS, "1")}
    wanted = range(workers or servers)
    return Plan(tuple(Placement(worker, environment=environment) for worker in wanted), ())


def _plan_gpus(machine: Machine, workers: int | None, per_worker: int, per_gpu: int) -> Plan:
    gpus = machine.gpus
    groups = [gpus[i : i + per_worker] for i in range(0, len(gpus), per_worker)]
    groups = [group for group in groups if len(group) == per_worker]
    wanted = workers if workers is not None else len(groups) * per_gpu
    if not wanted or wanted > len(groups) * per_gpu:
        raise PlacementError(_too_few(len(gpus), max(1, wanted), per_worker, per_gpu))
    if per_worker > 1 and any(name.startswith("MIG") for name in gpus):
        msg = "a process sees only one MIG device: use --n-gpus 1 with these"
        raise PlacementError(msg)
    order = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"} if machine.bus_order else {}
    placements = tuple(
        _on_gpus(worker, groups[worker // per_gpu], order, _sharers(worker, wanted, per_gpu))
        for worker in range(wanted)
    )
    idle = len(gpus) - -(-wanted // per_gpu) * per_worker
    notes = (f"{idle} of {len(gpus)} GPUs are not used",) if idle else ()
    return Plan(placements, notes)


def _too_few(gpus: int, workers: int, per_worker: int, per_gpu: int) -> str:
    needed = -(-workers // per_gpu) * per_worker
    each = f"{per_worker} GPU{'s' * (per_worker > 1)} each"
    have = f"there {'are' if gpus > 1 else 'is'} {gpus}"
    return f"{workers} worker{'s' * (workers > 1)} with {each} need {needed} GPUs, and {have}"


def _sharers(worker: int, workers: int, per_gpu: int) -> int:
    """How many of the workers are on the same GPUs as this one: the last GPUs may have fewer."""
    return min(per_gpu, workers - worker // per_gpu * per_gpu)


def _on_gpus(worker: int, gpus: tuple[str, ...], order: dict[str, str], sharers: int) -> Placement:
    environment = {"CUDA_VISIBLE_DEVICES": ",".join(gpus), **order}
    return Placement(worker, devices=gpus, environment=environment, sharers=sharers)


def _plan_cores(
    cores: tuple[int, ...], workers: int | None, per_worker: int | None, per_gpu: int
) -> Plan:
    if per_gpu > 1:
        msg = "--workers-per-gpu needs a GPU, and there is none: use --n-workers"
        raise PlacementError(msg)
    if per_worker and per_worker > len(cores):
        msg = f"there is no GPU, so --n-gpus {per_worker} means CPU cores for each worker, and there {_are(cores)}"
        raise PlacementError(msg)
    fitting = min(_DEFAULT_CPU_WORKERS, len(cores) // (per_worker or 1))
    wanted = workers or max(1, fitting)
    each = min(per_worker or len(cores), max(1, len(cores) // wanted))
    placements = tuple(_on_cores(worker, _share(cores, worker, each)) for worker in range(wanted))
    return Plan(placements, (_cores_note(len(cores), wanted, each, per_worker),))


def _are(cores: tuple[int, ...]) -> str:
    return "is 1" if len(cores) == 1 else f"are {len(cores)}"


def _cores_note(cores: int, workers: int, each: int, asked: int | None) -> str:
    """One sentence: where workers run, and what each gets."""
    crowd = f"{workers} worker{'s' * (workers > 1)} on {cores} CPU core{'s' * (cores > 1)}"
    if workers > cores:
        return f"no GPU here: {crowd}, so some share a core"
    instead = f" instead of {asked}" if asked and each < asked else ""
    return f"no GPU here: {crowd}, {each} for each{instead}"


def _share(cores: tuple[int, ...], worker: int, each: int) -> tuple[int, ...]:
    return tuple(cores[(worker * each + i) % len(cores)] for i in range(each))


def _on_cores(worker: int, cores: tuple[int, ...]) -> Placement:
    threads = dict.fromkeys(_THREADS, str(len(cores)))
    return Placement(worker, cores=cores, environment={"CUDA_VISIBLE_DEVICES": "", **threads})
