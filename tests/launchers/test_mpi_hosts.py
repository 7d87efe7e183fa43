"""What the launcher mpi-hosts asks of Open MPI, and how it says why that failed; tests/contract starts it."""

from __future__ import annotations

import os

import pytest

from trt_dp.errors import UsageError
from trt_dp.launchers import mpi_hosts

FRAME = "-" * 75


def test_both_versions_of_open_mpi_are_told_the_way_to_the_hosts():
    """The user's ssh and network are set under the names of Open MPI 4 and of 5."""
    given = mpi_hosts.environment({"PATH": "/bin"}, "ssh -F mine", "eth0")
    assert given["OMPI_MCA_plm_rsh_agent"] == given["PRTE_MCA_plm_ssh_agent"] == "ssh -F mine"
    assert given["OMPI_MCA_oob_tcp_if_include"] == given["PRTE_MCA_prte_if_include"] == "eth0"
    assert given["PATH"] == "/bin"


def test_a_job_around_it_is_not_seen_but_the_users_settings_are():
    """Inside another scheduler's job mpirun would start nothing on hosts that the user names."""
    mine = {"SLURM_JOB_ID": "7", "OMPI_COMM_WORLD_RANK": "0", "OMPI_MCA_plm_rsh_agent": "rsh"}
    given = mpi_hosts.environment(mine)
    assert given["OMPI_MCA_plm_rsh_agent"] == "rsh"
    assert not {"SLURM_JOB_ID", "OMPI_COMM_WORLD_RANK", "PRTE_MCA_prte_if_include"} & set(given)


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (
            ["trt-dp agent: the host is full", FRAME, "prterun detected"],
            "the agent ended: the host is full",
        ),
        (
            [FRAME, "PRTE has lost communication", "more of it", FRAME],
            "mpirun ended: PRTE has lost communication",
        ),
        ([FRAME], "mpirun ended: its exit status is 3"),
    ],
)
def test_the_reason_is_a_sentence_not_a_frame(lines, why):
    """Open MPI frames what it says, and ends it with a line of dashes."""
    assert mpi_hosts.why(lines, "its exit status is 3") == why


def test_another_mpi_is_refused_by_name(tmp_path, monkeypatch):
    """MPICH has other options: it would fail later, and in its own words."""
    mpirun = tmp_path / "mpirun"
    mpirun.write_text("#!/bin/sh\necho 'HYDRA build details:'; echo 'Version: 4.0.2'\n")
    mpirun.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(UsageError, match=r"needs Open MPI .*, and found MPICH 4\.0\.2"):
        mpi_hosts.MpiHostsLauncher(hosts="a")
