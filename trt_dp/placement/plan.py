"""Who runs where: the machine's GPUs (or cores) shared out to workers. `plan` is pure; `look` asks the machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping

from msgspec import Struct

from trt_dp.errors import PlacementError
from trt_dp.types import Placement

_ASK_SECONDS = 30
_NONE_VISIBLE = {"", "-1", "none", "void", "NoDevFiles"}
_JOB_MARKS = (
    "OMPI_",
    "PMIX_",
    "PMI_",
    "PRTE_LAUNCHED",
    "PRTE_SHARED_FS",
    "SLURM_",
    "PBS_",
    "LSB_",
    "PE_HOSTFILE",
    "MPI_",
    "I_MPI_",
    "HYDRA_",
    "HYDI_",
    "MPICH_",
    "MV2_",
    "TLLM_SPAWN_PROXY_PROCESS",
    "tllm_mpi_size",
)
_JOB_SETTINGS = (  # wishes of the machine's owner, not marks
    "OMPI_MCA_",
    "OMPI_ALLOW_RUN_AS_ROOT",
    "PMIX_MCA_",
)
_RANK_SETTINGS = frozenset(  # but these are what Open MPI's mpirun tells each of its ranks
    f"OMPI_MCA_{name}"
    for name in (
        "PREFIXES", "cpu_type", "ess", "ess_base_jobid", "ess_base_vpid", "initial_wdir",
        "mpi_oversubscribe", "num_procs", "orte_app_num", "orte_bound_at_launch",
        "orte_ess_node_rank", "orte_ess_num_procs", "orte_hnp_uri", "orte_jobfam_session_dir",
        "orte_launch", "orte_local_daemon_uri", "orte_num_nodes", "orte_precondition_transports",
        "orte_tmpdir_base", "orte_top_session_dir", "pmix", "shmem_RUNTIME_QUERY_hint",
    )
)  # fmt: skip
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_DEFAULT_CPU_WORKERS = 2


class Machine(Struct, frozen=True):
    """What this process may use: GPUs as CUDA_VISIBLE_DEVICES names them, and cores by number."""

    gpus: tuple[str, ...]
    cores: tuple[int, ...]
    bus_order: bool = False  # the GPUs are numbered by nvidia-smi, not by the user's own setting


class Plan(Struct, frozen=True):
    """Where each worker goes, and what is to be said about it."""

    placements: tuple[Placement, ...]
    notes: tuple[str, ...]


def plan(machine: Machine, workers: int | None, per_worker: int | None, per_gpu: int = 1) -> Plan:
    """Share the machine out: `per_worker` GPUs each, `per_gpu` workers on each of them; without GPUs, cores."""
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


def look() -> Machine:
    """The GPUs and cores that this process may use."""
    setting = os.environ.get("CUDA_VISIBLE_DEVICES")
    return Machine(visible(setting, _installed_gpus()), usable_cores(), bus_order=setting is None)


def visible(setting: str | None, installed: list[str] | None) -> tuple[str, ...]:
    """What CUDA_VISIBLE_DEVICES leaves of the installed devices (None: unknown); an entry that is not there is refused.

    Installed devices are `GPU-...` or `MIG-...` names, each after its index where it has one: `0 GPU-...`.
    """
    if setting is None:
        return tuple(_default_name(device) for device in installed or [])
    entries = [entry.strip() for entry in setting.split(",")]
    if entries[0] in _NONE_VISIBLE:
        return ()
    seen: set[str] = set()
    for entry in entries:
        device = entry if installed is None else _device(entry, installed)
        if device in seen:
            msg = f"CUDA_VISIBLE_DEVICES names {entry!r} twice: share a GPU with --workers-per-gpu"
            raise PlacementError(msg)
        seen.add(device)
    return tuple(entries)


def usable_cores() -> tuple[int, ...]:
    """The cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


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
    notes = ["no GPU here: workers run on CPU cores"]
    if per_worker is not None:
        cores_each = f"{per_worker} CPU core{'s' * (per_worker > 1)}"
        notes = [f"no GPU here: --n-gpus {per_worker} means {cores_each} for each worker"]
    fitting = min(_DEFAULT_CPU_WORKERS, len(cores) // (per_worker or 1))
    wanted = workers or max(1, fitting)
    each = per_worker or max(1, len(cores) // wanted)
    if wanted * each > len(cores):
        each = max(1, len(cores) // wanted)
        shared = "some share one" if wanted > len(cores) else f"each gets {each}"
        notes.append(f"{wanted} workers on {len(cores)} cores: {shared}")
    placements = tuple(_on_cores(worker, _share(cores, worker, each)) for worker in range(wanted))
    return Plan(placements, tuple(notes))


def _share(cores: tuple[int, ...], worker: int, each: int) -> tuple[int, ...]:
    return tuple(cores[(worker * each + i) % len(cores)] for i in range(each))


def _on_cores(worker: int, cores: tuple[int, ...]) -> Placement:
    threads = dict.fromkeys(_THREADS, str(len(cores)))
    return Placement(worker, cores=cores, environment={"CUDA_VISIBLE_DEVICES": "", **threads})


def _installed_gpus() -> list[str] | None:
    """What nvidia-smi lists; None where it is not there or cannot say."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    try:
        said = subprocess.run(
            [program, "-L"], capture_output=True, text=True, timeout=_ASK_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return parse_listing(said.stdout)


def parse_listing(listing: str) -> list[str]:
    """`nvidia-smi -L` as device names: a GPU that is split into MIG devices is named by those."""
    devices: list[str] = []
    whole = ""
    for line in listing.splitlines():
        if match := re.match(r"GPU (\d+): .*\(UUID: (GPU-[^)]+)\)", line):
            whole = f"{match[1]} {match[2]}"
            devices.append(whole)
        elif match := re.search(r"\(UUID: (MIG-[^)]+)\)", line):
            devices = [device for device in devices if device != whole]
            devices.append(match[1])
    return devices


def _default_name(device: str) -> str:
    return device.split(maxsplit=1)[0]


def _device(entry: str, installed: list[str]) -> str:
    """The installed device that an index means, or a UUID or its unambiguous beginning."""
    if entry.startswith("MIG-GPU-"):  # the older way to name a MIG device: GPU, instance, part
        return entry
    exact = [device for device in installed if entry in device.split()]
    begun = [device for device in installed if device.split()[-1].startswith(entry)]
    found = exact or begun
    if len(found) != 1:
        msg = f"CUDA_VISIBLE_DEVICES names {entry!r}, and this machine has {_listed(installed)}"
        raise PlacementError(msg)
    return found[0]


def _listed(installed: list[str]) -> str:
    return ", ".join(installed) if installed else "no GPU"


def clean(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment without the marks of an MPI or batch job: a worker is not one of that job's ranks."""
    return {name: value for name, value in environment.items() if not _marks_a_job(name)}


def _marks_a_job(name: str) -> bool:
    return name in _RANK_SETTINGS or (
        name.startswith(_JOB_MARKS) and not name.startswith(_JOB_SETTINGS)
    )
