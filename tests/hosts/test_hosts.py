"""Runs over several hosts: the same answers as on one machine, whatever happens to hosts, and nothing left on any.

The hosts are namespaces of this machine (tests/support/hosts.py), reached by real ssh.
"""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import run_echo, wait_until, write_dataset
from hosts import Host, Network, network, why_no_ssh

pytestmark = [pytest.mark.hosts, pytest.mark.skipif(bool(why := why_no_ssh()), reason=why)]

COMMAND = [sys.executable, "-m", "trt_dp"]
MARKS = ("trt_dp", "guard.py")
REQUESTS = 3000
WATCH = """
import socket, sys
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
with open(sys.argv[1], "ab", buffering=0) as file:
    while True:
        file.write(wire.recv(1 << 17))
"""
SLOW = ("--set", "step_seconds=0.02", "--set", "batch=8")


@pytest.fixture(scope="module")
def net(tmp_path_factory) -> Iterator[Network]:
    """Three hosts with sshd; the first is the coordinator's."""
    folder = tmp_path_factory.mktemp("network")
    with network(folder, 3) as made:
        made.command = made.ssh()
        yield made


@pytest.fixture
def hosts(net) -> Iterator[list[Host]]:
    """The same three, whole, with nothing of an earlier test on them and nothing left afterwards."""
    for host in net.hosts:
        host.mend()
    yield net.hosts
    for host in net.hosts:
        host.kill("trt_dp")
        host.kill("guard.py")


@pytest.fixture(autouse=True)
def no_orphans() -> None:
    """The hosts outlive a test; each test looks itself at what is left on them."""


@pytest.fixture(scope="module")
def requests(tmp_path_factory) -> Path:
    """Requests, each different."""
    return write_dataset(tmp_path_factory.mktemp("data") / "requests.jsonl", REQUESTS)


@pytest.fixture(scope="module")
def local_sha(requests, tmp_path_factory) -> str:
    """What a run on one machine answers."""
    return sha(run_echo(requests, tmp_path_factory.mktemp("local") / "run").folder)


@pytest.fixture
def start(net, hosts, requests, tmp_path):
    """A run over hosts n1 and n2 from host n0, by ssh."""

    def begin(*words: object, where: str = "n1,n2") -> subprocess.Popen[str]:
        ssh = f"ssh={net.command}"
        line = [*COMMAND, "run", requests, "--engine", "echo", "--no-timing", "--plain"]
        line += ["--output", tmp_path / "run", "--hosts", where, "--launcher-set", ssh]
        started.append(hosts[0].start(*line, *words))
        return started[-1]

    started: list[subprocess.Popen[str]] = []
    yield begin
    hosts[0].kill("trt_dp run")  # the processes of `started` only lead there
    for one in started:
        one.kill()
        one.communicate()


def sha(folder: Path) -> str:
    return hashlib.sha256((folder / "results.jsonl").read_bytes()).hexdigest()


def finish(process: subprocess.Popen[str], status: int = 0) -> str:
    """Wait for the end of a run; gives what it said."""
    _, said = process.communicate(timeout=300)
    assert process.returncode == status, said
    return said


def answering(folder: Path, workers: int = 4) -> bool:
    """Whether answers have come from so many workers: by default from all of two hosts."""
    status = folder / "run" / "status.json"
    if not status.exists():
        return False
    lanes = json.loads(status.read_text())["lanes"]
    return sum(lane["requests"] > 0 for lane in lanes) >= workers


def report(folder: Path) -> dict[str, object]:
    return json.loads((folder / "run" / "report.json").read_text())


def clean(hosts: list[Host]) -> bool:
    """Whether no process of a run is on any host."""
    return not any(host.processes(*MARKS) for host in hosts)


def test_two_hosts_answer_as_one_machine_does(start, hosts, tmp_path, local_sha):
    """The results are byte-equal, both hosts took part, the report names them, and nothing is left."""
    finish(start(*SLOW))
    assert sha(tmp_path / "run") == local_sha
    found = report(tmp_path)
    assert sorted(host["host"] for host in found["hosts"]) == ["n1", "n2"]
    assert all(host["requests"] > 0 for host in found["hosts"])
    assert sum(host["requests"] for host in found["hosts"]) == REQUESTS
    wait_until(lambda: clean(hosts), 20)


@pytest.mark.parametrize("end", [Host.cut, Host.crash], ids=["cut", "crashed"])
def test_a_lost_host_loses_no_request(start, hosts, net, tmp_path, local_sha, end):
    """What was in flight on a host that is cut off or crashes runs elsewhere; all answers come, each once."""
    process = start(*SLOW)
    wait_until(lambda: answering(tmp_path))
    end(hosts[2])
    said = finish(process)
    assert "the host n2 is lost, with 2 workers" in said
    assert sha(tmp_path / "run") == local_sha
    wait_until(lambda: clean(hosts[:2]), 20)
    if end is Host.crash:
        hosts[2].boot()
        hosts[2].start_sshd(net.folder)
    wait_until(lambda: clean(hosts), 40)


def test_a_host_that_comes_back_takes_part_again(start, hosts, tmp_path, local_sha):
    """After a cut it joins as a new host, with new workers."""
    process = start(*SLOW, "--set", "step_seconds=0.15", where="n2")
    wait_until(lambda: answering(tmp_path, 2))
    hosts[2].cut()
    wait_until(lambda: clean([hosts[2]]), 40)
    hosts[2].mend()
    said = finish(process)
    assert said.count("n2 (2 cores)") == 2
    assert sha(tmp_path / "run") == local_sha
    assert len(report(tmp_path)["workers"]) == 4


@pytest.mark.parametrize("what", ["trt_dp.agent", "guard.py", "trt_dp.worker"])
def test_what_is_killed_on_a_host_is_replaced(start, hosts, tmp_path, local_sha, what):
    """A killed agent, guard or worker costs nothing but time, and takes along what is below it."""
    process = start(*SLOW)
    wait_until(lambda: answering(tmp_path))
    assert hosts[1].kill(what)
    said = finish(process)
    assert sha(tmp_path / "run") == local_sha
    lost = "the host n1 is lost" if what == "trt_dp.agent" else "killed by SIGKILL"
    assert lost in said
    wait_until(lambda: clean(hosts), 20)


def test_a_frozen_agent_is_given_up(start, hosts, tmp_path, local_sha):
    """A host whose agent says nothing any more is lost, and its workers leave by themselves."""
    process = start(*SLOW, "--set", "step_seconds=0.25")
    wait_until(lambda: answering(tmp_path))
    assert hosts[1].kill("trt_dp.agent", signal.SIGSTOP)
    said = finish(process)
    assert "the host n1 is lost, with 2 workers: nothing was heard from it" in said
    assert sha(tmp_path / "run") == local_sha
    assert not hosts[1].processes("trt_dp.worker")
    hosts[1].kill("trt_dp.agent", signal.SIGCONT)
    wait_until(lambda: clean(hosts), 20)


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT])
def test_the_end_of_the_coordinator_empties_all_hosts_and_the_run_is_resumed(
    start, hosts, tmp_path, local_sha, kind
):
    """A coordinator that is killed or stopped leaves nothing anywhere; the same command finishes the run."""
    process = start(*SLOW, "--grace-seconds", "0")
    wait_until(lambda: answering(tmp_path))
    hosts[0].kill("trt_dp run", kind)
    process.communicate(timeout=60)
    wait_until(lambda: clean(hosts), 20)
    said = finish(start(*SLOW))
    assert "resuming" in said
    assert sha(tmp_path / "run") == local_sha


def test_a_cut_coordinator_empties_its_hosts(start, hosts, tmp_path):
    """Hosts that hear nothing from their coordinator end all that they started for it."""
    process = start(*SLOW, "--set", "step_seconds=0.5", "--host-seconds", "15")
    wait_until(lambda: answering(tmp_path))
    hosts[0].cut()
    wait_until(lambda: clean(hosts[1:]), 40)
    said = finish(process, 1)
    assert "there is no worker: 0 of 2 hosts joined; waited 15 s" in said
    assert "To resume" in said


def test_a_host_that_sees_no_file_is_sent_the_requests(net, hosts, requests, tmp_path, local_sha):
    """Where the dataset is not on a host, its workers get bytes, and the answers are the same."""
    blind = net.add(hidden=[requests.parent])
    try:
        blind.start_sshd(net.folder)
        config = net.folder / "ssh"
        entry = f"Host {blind.name}\n  HostName {blind.address}\n"
        config.write_text(entry + config.read_text())
        assert blind.run("ls", requests).returncode
        line = [*COMMAND, "run", requests, "--engine", "echo", "--no-timing"]
        line += ["--output", tmp_path / "run", "--hosts", blind.name]
        done = hosts[0].run(*line, "--launcher-set", f"ssh={net.command}")
        assert done.returncode == 0, done.stderr
        assert sha(tmp_path / "run") == local_sha
    finally:
        net.hosts.remove(blind)
        blind.down()


def test_hosts_that_cannot_be_reached_are_told(start):
    """A host without a way in is named with ssh's own words, and a run without any host stops and can be resumed."""
    said = finish(start("--launcher-set", "python=/no/such/python"), 1)
    assert "n1: the agent ended" in said
    assert "there is no worker: 0 of 2 hosts joined" in said
    assert "To resume" in said


@pytest.mark.parametrize("command", ["plan", "doctor"])
def test_who_would_run_where_is_told_before(net, hosts, requests, command):
    """Both commands name each worker's host and start none; a worker that fits nowhere is told as an error."""
    line = [*COMMAND, command, "--hosts", "n1,n2", "--launcher-set", f"ssh={net.command}"]
    line += ["--request-path", requests] if command == "plan" else []
    told = hosts[0].run(*line)
    assert told.returncode == 0, told.stderr
    assert "worker 0: n1, 1 core" in told.stdout or "worker 0: n2, 1 core" in told.stdout
    assert "2 of 2 hosts joined" in told.stdout
    wait_until(lambda: clean(hosts), 20)


def test_a_gpu_that_no_host_has_is_told(net, hosts, requests):
    """A worker that fits on no host is an error that says what there is."""
    line = [*COMMAND, "plan", "--request-path", requests, "--n-gpus", "64", "--hosts", "n1,n2"]
    told = hosts[0].run(*line, "--launcher-set", f"ssh={net.command}")
    assert told.returncode == 2
    assert "2 of 2 hosts joined; n1: there is no GPU, so --n-gpus 64" in told.stderr


def test_only_the_address_towards_the_hosts_is_listened_on(start, hosts, tmp_path):
    """The door is open on the network of the hosts and nowhere else."""
    process = start(*SLOW)
    wait_until(lambda: answering(tmp_path))
    listening = hosts[0].run("ss", "-Htln").stdout
    others = [line for line in listening.splitlines() if ":2222" not in line]
    assert len(others) == 1
    assert f"{hosts[0].address}:" in others[0]
    finish(process)


def test_nothing_readable_crosses_the_network(net, hosts, tmp_path):
    """Requests that are sent as bytes, and all that agents and workers say, are seen by nobody on the way."""
    hidden = tmp_path / "data"
    hidden.mkdir()
    secret = "the secret of the prompt"
    lines = [
        {"task_id": f"{secret} {i}", "input_ids": [i, 7, 9], "output_tokens": 4} for i in range(500)
    ]
    requests = hidden / "requests.jsonl"
    requests.write_text("".join(json.dumps(line) + "\n" for line in lines))
    blind = net.add(hidden=[hidden])
    try:
        config = net.folder / "ssh"
        entry = f"Host {blind.name}\n  HostName {blind.address}\n"
        config.write_text(entry + config.read_text())
        blind.start_sshd(net.folder)
        capture = tmp_path / "capture"
        watcher = hosts[0].start(sys.executable, "-c", WATCH, capture)
        wait_until(capture.exists)
        line = [*COMMAND, "run", requests, "--engine", "echo", "--output", tmp_path / "run"]
        words = ["--hosts", blind.name, "--launcher-set", f"ssh={net.command}"]
        done = hosts[0].run(*line, *words)
        assert done.returncode == 0, done.stderr
        hosts[0].kill(str(capture))
        watcher.communicate()
        seen = capture.read_bytes()
    finally:
        net.hosts.remove(blind)
        blind.down()
    assert len(seen) > 50_000
    assert seen.count(b"SSH-2.0") >= 1  # so the watcher did see what is in clear
    for word in (secret.encode(), b"task_id", b"TRT_DP", b"input_ids", b"echo", b"output_ids"):
        assert word not in seen


def test_the_key_is_in_no_command_line(start, hosts, tmp_path):
    """No process on any host shows the key of the run in its arguments."""
    process = start(*SLOW)
    wait_until(lambda: answering(tmp_path))
    shown = [
        Path(f"/proc/{pid}/cmdline").read_bytes()
        for host in hosts
        for pid in host.processes("trt_dp", "ssh")
    ]
    (worker, *_) = hosts[1].processes("trt_dp.worker")
    variables = Path(f"/proc/{worker}/environ").read_bytes().split(b"\0")
    (key,) = [one.partition(b"=")[2] for one in variables if one.startswith(b"TRT_DP_KEY=")]
    assert len(key) == 64
    assert not any(key in line for line in shown)
    finish(process)
