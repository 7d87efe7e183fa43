"""A run as a job of Slurm: submitted from a machine of the cluster that is in no allocation."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence

from msgspec import Struct

from trt_dp.errors import UsageError
from trt_dp.system import safe_files

_SET = "--launcher-set"
_ASK_SECONDS = 60


class Job(Struct, frozen=True, kw_only=True):
    """What is asked of Slurm; empty where its own defaults hold. `sbatch` is any more of its options."""

    nodes: int = 0
    partition: str = ""
    time: str = ""
    gres: str = ""
    sbatch: str = ""


def submit(job: Job, words: Sequence[str], python: str) -> str:
    """Have the command trt-dp with these words run on the first node of a new job; returns what a user must know."""
    if "-" in words:
        msg = "a job has no standard input: name a file instead of -"
        raise UsageError(msg)
    command = [python or sys.executable, *safe_files.python("trt_dp", *without(words))[1:]]
    number = _sbatch(options(job), f"#!/bin/sh\nexec {shlex.join(command)}\n")
    return f"job {number} is submitted; what it says goes to slurm-{number}.out"


def options(job: Job) -> list[str]:
    """The job as options of sbatch; it survives the loss of a node."""
    named = {"--partition": job.partition, "--time": job.time, "--gres": job.gres}
    given = [f"{name}={value}" for name, value in named.items() if value]
    return [
        f"--nodes={job.nodes}",
        "--no-kill",
        "--job-name=trt-dp",
        *given,
        *shlex.split(job.sbatch),
    ]


def without(words: Sequence[str]) -> list[str]:
    """The words of a command less those that are for the job."""
    return [word for group in _groups(words) if not _is_for_job(group) for word in group]


def _groups(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Each word alone, but an option of the launcher with its value."""
    left = iter(words)
    for word in left:
        yield (word, *([value] if word == _SET and (value := next(left, "")) else []))


def _is_for_job(group: tuple[str, ...]) -> bool:
    name, _, _ = group[-1].removeprefix(f"{_SET}=").partition("=")
    return group[0].partition("=")[0] == _SET and name in Job.__struct_fields__


def _sbatch(options: Sequence[str], script: str) -> str:
    """Submit; returns the job's number. Raises UsageError with Slurm's own words where it takes no such job."""
    program = shutil.which("sbatch")
    if program is None:
        msg = (
            "the launcher slurm needs sbatch, and there is none: run it on a machine of the cluster"
        )
        raise UsageError(msg)
    try:
        done = subprocess.run(
            [program, "--parsable", *options],
            input=script, capture_output=True, text=True, timeout=_ASK_SECONDS, check=True,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        msg = f"Slurm has not taken the job within {_ASK_SECONDS} s: look with sinfo"
        raise UsageError(msg) from error
    except subprocess.CalledProcessError as error:
        msg = f"Slurm does not take the job: {' '.join(error.stderr.split())}"
        raise UsageError(msg) from error
    return done.stdout.strip().partition(";")[0]
