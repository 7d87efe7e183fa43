"""Runs over several hosts: the same answers as on one machine, whatever happens to hosts, and nothing left on any.

The hosts are namespaces of this machine (tests/support/hosts.py), reached by real ssh.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest
from conftest import wait_until
from host_runs import COMMAND, REQUESTS, SLOW, answering, clean, finish, key_of_the_run, report, sha
from hosts import Host, hidden, why_no_ssh

pytestmark = [pytest.mark.hosts, pytest.mark.skipif(bool(why := why_no_ssh()), reason=why)]

WATCH = """
import socket, sys
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
with open(sys.argv[1], "ab", buffering=0) as file:
    while True:
        file.write(wire.recv(1 << 17))
"""


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
    with net.guest(hidden(requests.parent)) as blind:
        assert blind.run("ls", requests).returncode
        line = [*COMMAND, "run", requests, "--engine", "echo", "--no-timing"]
        line += ["--output", tmp_path / "run", "--hosts", blind.name]
        done = hosts[0].run(*line, "--launcher-set", f"ssh={net.command}")
        assert done.returncode == 0, done.stderr
        assert sha(tmp_path / "run") == local_sha


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
    assert "2 of 2 hosts joined; 0 of 2 hosts have 64 GPUs free; n1: there is no" in told.stderr
    assert "; waited " in told.stderr


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
    """Requests that are sent as bytes, answers, the key, and all that is said: nobody on the way sees any of it."""
    folder = tmp_path / "data"
    folder.mkdir()
    secret = "the secret of the prompt"
    lines = [
        {"task_id": f"{secret} {i}", "input_ids": [i, 7, 9], "output_tokens": 4} for i in range(500)
    ]
    requests = folder / "requests.jsonl"
    requests.write_text("".join(json.dumps(line) + "\n" for line in lines))
    capture = tmp_path / "capture"
    with net.guest(hidden(folder)) as blind:
        watcher = hosts[0].start(sys.executable, "-c", WATCH, capture)
        wait_until(capture.exists)
        line = [*COMMAND, "run", requests, "--engine", "echo", "--output", tmp_path / "run"]
        words = ["--hosts", blind.name, "--launcher-set", f"ssh={net.command}", *SLOW]
        process = hosts[0].start(*line, *words)
        wait_until(lambda: answering(tmp_path, 1))
        key = key_of_the_run(blind)
        finish(process)
        hosts[0].kill(str(capture))
        watcher.communicate()
    seen = capture.read_bytes()
    assert secret in (tmp_path / "run" / "results.jsonl").read_text()
    assert len(seen) > 50_000
    assert seen.count(b"SSH-2.0") >= 1  # so the watcher did see what is in clear
    for word in (secret.encode(), b"task_id", b"TRT_DP", b"input_ids", b"echo", b"output_ids"):
        assert word not in seen
    assert not any(one in seen for one in (key, bytes.fromhex(key.decode())))


def test_the_key_is_in_no_command_line(start, hosts, tmp_path):
    """No process on any host shows the key of the run in its arguments."""
    process = start(*SLOW)
    wait_until(lambda: answering(tmp_path))
    shown = [
        Path(f"/proc/{pid}/cmdline").read_bytes()
        for host in hosts
        for pid in host.processes("trt_dp", "ssh")
    ]
    key = key_of_the_run(hosts[1])
    assert not any(key in line for line in shown)
    finish(process)
