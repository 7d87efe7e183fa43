"""Agents by Slurm: inside salloc or sbatch, one srun step starts one on each node of the allocation."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from trt_dp.errors import UsageError
from trt_dp.launchers import StarterEnded
from trt_dp.launchers.agent_command import agent_command
from trt_dp.launchers.node_list import node_names
from trt_dp.launchers.slurm_job import Job, submit
from trt_dp.launchers.starters import Starter, end_all
from trt_dp.placement.environment import clean
from trt_dp.wire.credentials import Credentials, variables

_STEP = (
    *("--overlap", "--ntasks-per-node=1", "--cpu-bind=none"),  # all that the job has on each node
    *("--no-kill", "--kill-on-bad-exit=0", "--wait=0"),  # one lost node ends no other
    "--export=ALL",
)
_KEPT = ("SLURM_CONF", "SLURM_CLUSTERS")
_JOB, _NODES = "SLURM_JOB_ID", "SLURM_JOB_NODELIST"
_OUTSIDE = (
    "the launcher slurm works inside an allocation: put the same command into a script for sbatch, "
    "run salloc first, or have trt-dp run submit it: --launcher-set nodes=2"
)
_INSIDE = (
    "this is inside a job already, whose nodes are used: leave out nodes, partition, time, gres and "
    "sbatch of --launcher-set"
)


class SlurmLauncher:
    """One `srun` over all nodes of the job that trt-dp runs in; the key goes through its environment.

    `python` is the Python of the nodes that has trt-dp, if it is not at the same path as here. The others are for
    a job that is yet to be submitted, in which trt-dp then runs.
    """

    def __init__(  # noqa: PLR0913 - each is an option of --launcher-set
        self,
        *,
        python: str = "",
        nodes: int = 0,
        partition: str = "",
        time: str = "",
        gres: str = "",
        sbatch: str = "",
    ) -> None:
        if why := self.why_not():
            raise UsageError(why)
        if nodes or partition or time or gres or sbatch:
            raise UsageError(_INSIDE)
        self._list = os.environ[_NODES]
        self.hosts: Sequence[str] = node_names(self._list)
        self._command = step(os.environ[_JOB], len(self.hosts), agent_command(python))
        self._step: Starter | None = None

    @staticmethod
    def why_not() -> str | None:
        """What keeps it from being used here."""
        if shutil.which("srun") is None:
            return "the launcher slurm needs srun, and there is none: run it on a machine of the cluster"
        return None if _JOB in os.environ and _NODES in os.environ else _OUTSIDE

    @staticmethod
    def submit(words: Sequence[str], *, python: str = "", **job: Any) -> str | None:
        """Submit the command with these words as a job of its own; None where it is to run here."""
        if _JOB in os.environ or not job:
            return None
        if not job.get("nodes"):
            msg = "say how many nodes the job shall have: --launcher-set nodes=2"
            raise UsageError(msg)
        return submit(Job(**job), words, python)

    def begin(self, door: Credentials) -> None:
        """Start the step."""
        self._step = Starter(self._command, environment=environment(os.environ, door))

    def poll(self) -> list[StarterEnded]:
        """The end of the step, once."""
        if self._step is None or self._step.poll() is None:
            return []
        why = f"srun ended: {self._step.last_words()}"
        self._step.forget()
        self._step = None
        return [StarterEnded(self._list, why, last=True)]

    def close(self) -> None:
        """Wait for srun to end with its agents, then ask it to end them: killed, it would leave them."""
        end_all([self._step] if self._step else [])
        self._step = None


def step(job: str, nodes: int, agent: Sequence[str]) -> list[str]:
    """The srun that starts an agent on each node of a job."""
    return ["srun", f"--jobid={job}", f"-N{nodes}", f"-n{nodes}", *_STEP, *agent]


def environment(mine: Mapping[str, str], door: Credentials) -> dict[str, str]:
    """What srun and the agents find: no setting of the step or batch script that this is part of, and the key."""
    kept = {name: mine[name] for name in _KEPT if name in mine}
    return {**clean(mine), **kept, **variables(door)}
