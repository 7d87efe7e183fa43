"""What the launcher slurm asks of Slurm, and what it refuses; tests/contract starts it, with a double of srun."""

from __future__ import annotations

import shlex
from pathlib import Path

import clusters
import pytest
from typer.testing import CliRunner

from trt_dp.cli.main import app
from trt_dp.errors import UsageError
from trt_dp.launchers import slurm
from trt_dp.launchers.node_list import node_names
from trt_dp.wire.credentials import Credentials

LISTS = {
    "n1": ["n1"],
    "n1,login": ["n1", "login"],
    "n[1-3,07]": ["n1", "n2", "n3", "n07"],
    "n[08-11]": ["n08", "n09", "n10", "n11"],
    "r[1-2]n[1-2],x": ["r1n1", "r1n2", "r2n1", "r2n2", "x"],
    "a[1-2]-ib.site,b9": ["a1-ib.site", "a2-ib.site", "b9"],
}


@pytest.mark.parametrize(("text", "names"), LISTS.items(), ids=LISTS)
def test_a_list_of_nodes_is_read_as_slurm_means_it(text, names):
    """Ranges keep their zeros, and several brackets multiply."""
    assert node_names(text) == names


@pytest.mark.parametrize("text", ["", "n[1-2", "n1,", "n[a-b]", "n[]", "n]1", "n[1-2-3]", "n[-]"])
def test_what_is_no_list_of_nodes_is_refused(text):
    """Nothing is guessed."""
    with pytest.raises(UsageError, match="SLURM_JOB_NODELIST"):
        node_names(text)


def test_one_step_takes_all_nodes_of_the_job():
    """One agent on each node, which sees all that the job has there, and survives the loss of another node."""
    line = slurm.step("7", 3, ["agent"])
    assert line[:4] == ["srun", "--jobid=7", "-N3", "-n3"]
    assert {"--ntasks-per-node=1", "--overlap", "--no-kill", "--kill-on-bad-exit=0"} < set(line)
    assert line[-1] == "agent"


def test_settings_of_the_job_script_do_not_reach_the_step():
    """An inherited binding slows workers; the cluster's configuration and the key have to be there."""
    mine = {"SLURM_CPU_BIND": "quiet", "SLURM_JOB_ID": "7", "SLURM_CONF": "/c", "PATH": "/bin"}
    given = slurm.environment(mine, Credentials("a:1", "00ff"))
    assert "00ff" in given.values()
    assert given["SLURM_CONF"] == "/c"
    assert not {"SLURM_CPU_BIND", "SLURM_JOB_ID"} & set(given)


@pytest.fixture
def outside(monkeypatch, tmp_path) -> Path:
    """A machine of the cluster, in no allocation; gives the file that shows what sbatch was told."""
    clusters.pretend(monkeypatch, nodes="n1")
    monkeypatch.delenv("SLURM_JOB_ID")
    monkeypatch.setenv("SBATCH_TOLD", str(tmp_path / "told"))
    return tmp_path / "told"


def launched(*job: str) -> list[str]:
    """A command with these options for the launcher."""
    options = [word for one in ("launcher=slurm", *job) for word in ("--launcher-set", one)][2:]
    return ["run", "my file.jsonl", "--launcher", "slurm", *options]


def test_a_run_from_outside_becomes_a_job(outside, monkeypatch):
    """The command goes into the job without what was for the job; its number is printed, and nothing runs here."""
    job = ("nodes=2", "partition=gpu", "time=60", "gres=gpu:4", "sbatch=--account=me --qos 'a b'")
    words = launched(*job, "python=/opt/python")
    words.insert(1, "--launcher-set=nodes=2")
    monkeypatch.setattr("sys.argv", ["trt-dp", *words])
    told = CliRunner().invoke(app, words)
    assert told.output == "job 7 is submitted; what it says goes to slurm-7.out\n"
    options, shell, *command = outside.read_text().splitlines()
    asked = "--nodes=2 --no-kill --job-name=trt-dp --partition=gpu --time=60 --gres=gpu:4"
    assert options == f"--parsable {asked} --account=me --qos a b"
    assert shell == "#!/bin/sh"
    in_job = shlex.split("\n".join(command))
    assert in_job[:2] == ["exec", "/opt/python"]
    assert in_job[in_job.index("run") :] == launched("python=/opt/python")


@pytest.mark.parametrize(
    ("job", "sentence"),
    [
        (("partition=gpu",), "say how many nodes"),
        (("nodes=2", "partition=none"), "does not take the job: sbatch: error: invalid partition"),
    ],
)
@pytest.mark.usefixtures("outside")
def test_a_job_that_cannot_be_is_told(job, sentence):
    """In one sentence, with Slurm's own words where it refuses."""
    with pytest.raises(UsageError, match=sentence):
        slurm.SlurmLauncher.submit(launched(*job), **dict(one.split("=") for one in job))


@pytest.mark.usefixtures("outside")
def test_a_job_has_no_standard_input():
    """What is piped into the command would not reach it."""
    with pytest.raises(UsageError, match="name a file instead of -"):
        slurm.SlurmLauncher.submit(["run", "-"], nodes=1)


def test_inside_a_job_there_is_no_other(monkeypatch):
    """Options for a job that exists already are refused, not ignored."""
    clusters.pretend(monkeypatch, nodes="n1")
    assert slurm.SlurmLauncher.submit(launched("nodes=2"), nodes=2) is None
    with pytest.raises(UsageError, match="inside a job already"):
        slurm.SlurmLauncher(nodes=2)


def test_outside_an_allocation_it_says_what_to_do(monkeypatch):
    """The same command works in a script for sbatch."""
    clusters.pretend(monkeypatch, nodes="n1")
    monkeypatch.delenv("SLURM_JOB_ID")
    with pytest.raises(UsageError, match=r"inside an allocation: .* sbatch"):
        slurm.SlurmLauncher()


def test_without_srun_it_says_so(monkeypatch):
    """A laptop is no machine of a cluster."""
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UsageError, match="needs srun, and there is none"):
        slurm.SlurmLauncher()
