"""The environment of what trt-dp starts: without the marks of the MPI or batch job that trt-dp itself runs in."""

from __future__ import annotations

from collections.abc import Mapping

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


def clean(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment without the marks of an MPI or batch job: what starts in it is not one of that job's ranks."""
    return {name: value for name, value in environment.items() if not _marks_a_job(name)}


def _marks_a_job(name: str) -> bool:
    return name in _RANK_SETTINGS or (
        name.startswith(_JOB_MARKS) and not name.startswith(_JOB_SETTINGS)
    )
