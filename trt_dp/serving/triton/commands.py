"""The command and environment of each tritonserver: what NVIDIA's launch script would run, with what it leaves open.

It listens on loopback unless told otherwise, does not pin all threads of a server to one core (mpirun does, for one or
two ranks), and gives each rank names of its own in shared memory.
"""

from __future__ import annotations

from msgspec import Struct

from trt_dp.serving.triton.modes import Server

PROGRAM = "/opt/tritonserver/bin/tritonserver"
EXIT_SECONDS = 20
_ORCHESTRATOR = {"TRTLLM_ORCHESTRATOR": "1", "TRTLLM_ORCHESTRATOR_SPAWN_PROCESSES": "1"}
_UNBOUND = {  # of Open MPI 4 and 5
    "OMPI_MCA_hwloc_base_binding_policy": "none",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
}


class Ports(Struct, frozen=True, kw_only=True):
    """Where a server listens."""

    http: int
    grpc: int
    metrics: int
    host: str = "127.0.0.1"


class Start(Struct, frozen=True, kw_only=True):
    """What all servers of a layout have in common."""

    repository: str
    models: tuple[str, ...]
    cores: tuple[str, ...]  # those of them that the ranks behind the first load
    program: str = PROGRAM
    mpirun: str | None = "mpirun"  # None: only where a server has one rank and spawns none
    words: tuple[str, ...] = ()  # of the user, after all others
    prefix: str = "trt_dp"  # of names in /dev/shm


def command(server: Server, ports: Ports, start: Start) -> list[str]:
    """The words of the command that starts a server with all its ranks."""
    ranks = [_rank(server, ports, start, rank) for rank in range(server.ranks)]
    if start.mpirun is None:
        return ranks[0]
    words = [start.mpirun, "--host", f"localhost:{server.ranks}"]
    for place, rank in enumerate(ranks):
        words += [*([":"] if place else []), "-n", "1", *rank]
    return words


def _rank(server: Server, ports: Ports, start: Start, rank: int) -> list[str]:
    return [
        start.program,
        f"--model-repository={start.repository}",
        *(f"--{kind}-address={ports.host}" for kind in ("http", "grpc", "metrics")),
        f"--http-port={ports.http}",
        f"--grpc-port={ports.grpc}",
        f"--metrics-port={ports.metrics}",
        "--disable-auto-complete-config",
        f"--exit-timeout-secs={EXIT_SECONDS}",
        f"--backend-config=python,shm-region-prefix-name={shared_names(start, ports)}{rank}_",
        "--model-control-mode=explicit",  # what else lies in the folder is not loaded
        *(f"--load-model={name}" for name in (start.cores if rank else start.models)),
        *(_no_pools(server) if server.orchestrator else ()),
        *start.words,
    ]


def shared_names(start: Start, ports: Ports) -> str:
    """How the names of a server's files in shared memory begin; a killed one leaves them behind."""
    return f"{start.prefix}_{ports.http}_"


def _no_pools(server: Server) -> list[str]:
    """An orchestrator runs no model itself: memory of its own on the GPUs would only be missing there."""
    pools = [f"--cuda-memory-pool-byte-size={number}:0" for number in range(len(server.devices))]
    return ["--pinned-memory-pool-byte-size=0", "--enable-peer-access=false", *pools]


def environment(server: Server, *, bus_order: bool = False) -> dict[str, str]:
    """What a server must find in its environment, besides what Open MPI needs."""
    devices = {"CUDA_VISIBLE_DEVICES": ",".join(server.devices)}
    order = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"} if bus_order else {}
    return {**devices, **order, **_UNBOUND, **(_ORCHESTRATOR if server.orchestrator else {})}
