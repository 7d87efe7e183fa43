"""Agents started by hand on this machine: what needs no second one to be seen."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import (
    COMMAND,
    Watcher,
    echo_job,
    expected_lines,
    read_lines,
    wait_until,
    write_dataset,
)

from trt_dp.agent import main as agent_main
from trt_dp.coordinator.run import Outcome
from trt_dp.coordinator.run import run as run_job
from trt_dp.coordinator.workers.limits import Limits
from trt_dp.errors import ChannelClosed, NoWorkersLeft, TrtDpError, UsageError
from trt_dp.wire import credentials
from trt_dp.wire.credentials import Credentials
from trt_dp.wire.handshake import knock
from trt_dp.wire.messages import Host, ToAgent, TurnedAway

pytest.importorskip("cryptography")


class Running:
    """A run of this process in a thread, which waits for agents."""

    def __init__(self, dataset: Path, folder: Path, **more) -> None:
        self.key = folder / "key"
        self.watcher = Watcher()
        self.outcome: Outcome | None = None
        self.error: BaseException | None = None
        job = echo_job(
            dataset,
            folder / "run",
            launcher="by-hand",
            launcher_options={"key_file": str(self.key)},
            address="127.0.0.1",
            **more,
        )
        self._thread = threading.Thread(target=self._run, args=(job,))
        self._thread.start()
        wait_until(lambda: self.key.exists() or not self._thread.is_alive())

    def finish(self) -> None:
        self._thread.join(120)
        assert not self._thread.is_alive()

    def _run(self, job) -> None:
        try:
            self.outcome = run_job(job, self.watcher)
        except TrtDpError as error:
            self.error = error


def start_agent(*words: object, **variables: str) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "trt_dp.agent", *map(str, words)]
    environment = {**os.environ, **variables}
    return subprocess.Popen(line, stderr=subprocess.PIPE, text=True, env=environment)


@contextlib.contextmanager
def tunnel(target: str) -> Iterator[tuple[str, list[socket.socket]]]:
    """An address that leads to another, and the connections that came that way."""
    passed: list[socket.socket] = []
    host, _, port = target.rpartition(":")

    def pump(one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := one.recv(1 << 16):
                other.sendall(piece)
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_WR)

    def lead() -> None:
        with contextlib.suppress(OSError):
            while True:
                opened.append(near := entrance.accept()[0])
                opened.append(far := socket.create_connection((host, int(port))))
                passed.append(near)
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=pump, args=ends, daemon=True).start()

    opened: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as entrance:
        thread = threading.Thread(target=lead)
        thread.start()
        yield f"127.0.0.1:{entrance.getsockname()[1]}", passed
        entrance.shutdown(socket.SHUT_RDWR)
        thread.join()
    for one in opened:
        one.close()


def test_a_run_takes_the_workers_of_an_agent(tmp_path, dataset):
    """An agent with the key file joins, its workers answer all, and it leaves with the end of the run."""
    running = Running(dataset, tmp_path)
    assert stat.S_IMODE(running.key.stat().st_mode) == 0o600
    agent = start_agent("--key-file", running.key)
    running.finish()
    assert running.error is None
    assert read_lines(running.outcome.folder / "results.jsonl") == expected_lines(dataset)
    assert [host.requests for host in running.outcome.report.hosts] == [200]
    _, said = agent.communicate(timeout=60)
    assert (agent.returncode, said) == (0, "")
    assert not running.key.exists()


def test_workers_take_the_way_of_their_agent(tmp_path, dataset):
    """Where an agent reaches the coordinator by another address, a tunnel's, its workers do so too."""
    running = Running(dataset, tmp_path)
    with tunnel(credentials.read(running.key).address) as (address, passed):
        line = [*COMMAND, "agent", "--key-file", str(running.key), "--connect", address]
        agent = subprocess.Popen(line, stderr=subprocess.PIPE, text=True)
        running.finish()
        assert running.error is None
        _, said = agent.communicate(timeout=60)
    assert (agent.returncode, said) == (0, "")
    assert len(passed) > 1  # the agent's own, and the workers' that came in time


def test_a_second_agent_adds_its_workers_while_the_run_goes_on(tmp_path):
    """Who joins later gets workers too, and each is in the report."""
    dataset = write_dataset(tmp_path / "requests.jsonl", 600)
    slow = {"step_seconds": "0.05", "batch": "2", "capacity": "8"}
    running = Running(dataset, tmp_path, options=slow, workers=None)
    agents = [start_agent("--key-file", running.key)]
    wait_until(lambda: running.watcher.last and running.watcher.last.completed > 20)
    agents.append(start_agent("--key-file", running.key))
    running.finish()
    assert running.error is None
    assert read_lines(running.outcome.folder / "results.jsonl") == expected_lines(dataset)
    assert len(running.outcome.report.hosts) == 2
    assert all(host.requests for host in running.outcome.report.hosts)
    assert [agent.wait(60) for agent in agents] == [0, 0]
    for agent in agents:
        agent.stderr.close()


def test_agents_of_one_machine_share_out_its_gpus(tmp_path, monkeypatch):
    """Each has the GPUs that it was granted; one with GPUs that another has already is turned away."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    dataset = write_dataset(tmp_path / "requests.jsonl", 400)
    slow = {"step_seconds": "0.05", "batch": "2", "capacity": "8"}
    running = Running(dataset, tmp_path, options=slow, workers=None)
    first = start_agent("--key-file", running.key, CUDA_VISIBLE_DEVICES="0,1")
    wait_until(lambda: running.watcher.last and running.watcher.last.ready == 2)
    double = start_agent("--key-file", running.key, CUDA_VISIBLE_DEVICES="1")
    _, said = double.communicate(timeout=60)
    assert double.returncode == 1
    assert "takes part already with GPUs 1" in said
    other = start_agent("--key-file", running.key, CUDA_VISIBLE_DEVICES="2")
    running.finish()
    assert running.error is None
    name = socket.gethostname()
    devices = [worker.devices for worker in running.outcome.report.workers]
    assert devices == [[f"{name}:0"], [f"{name}:1"], [f"{name}-2:2"]]
    for agent in (first, other):
        assert agent.wait(60) == 0
        agent.stderr.close()


def test_a_file_that_is_no_key_is_not_replaced(tmp_path):
    """A slip of the hand costs nobody a file; the key of an earlier run may go."""
    precious = tmp_path / "key"
    precious.write_text("mine")
    with pytest.raises(UsageError, match="exists, and is no key of a run"):
        credentials.write(credentials.Credentials("127.0.0.1:1", "00" * 32), precious)
    assert precious.read_text() == "mine"
    old = tmp_path / "old"
    for key in ("00" * 32, "11" * 32):
        credentials.write(credentials.Credentials("127.0.0.1:1", key), old)
    assert credentials.read(old).key == "11" * 32


def test_a_run_without_any_host_stops_in_time(tmp_path, dataset):
    """It says what it waited for, and how to resume."""
    running = Running(dataset, tmp_path, limits=Limits(host_seconds=0.5))
    running.finish()
    assert isinstance(running.error, NoWorkersLeft)
    assert "there is no worker: 0 of 0 hosts joined; waited" in str(running.error)
    assert "To resume" in str(running.error)


def test_too_few_workers_stop_the_run(tmp_path, dataset):
    """Below --min-workers it does not go on for longer than --host-seconds."""
    limits = Limits(host_seconds=4.0, min_workers=3)
    slow = {"step_seconds": "0.2", "batch": "1"}
    running = Running(dataset, tmp_path, limits=limits, options=slow)
    agent = start_agent("--key-file", running.key)
    running.finish()
    assert "fewer than 3 workers are left: 1 of 1 hosts joined" in str(running.error)
    assert agent.wait(60) == 0
    agent.stderr.close()


def test_another_version_is_refused_with_both_numbers(tmp_path, dataset):
    """The agent is told, and so is the user."""
    running = Running(dataset, tmp_path, limits=Limits(host_seconds=3.0))
    door = credentials.read(running.key)
    channel = knock(
        door.address, bytes.fromhex(door.key), certificate=door.certificate, incoming=ToAgent
    )
    channel.send(Host(name="old", version="0.0.1"))
    told: list[object] = []
    deadline = time.monotonic() + 20
    while not told and time.monotonic() < deadline:
        channel.wait(1)
        told = channel.receive()
    channel.close()
    assert isinstance(told[0], TurnedAway)
    assert "old has trt-dp 0.0.1, and the coordinator has 0." in told[0].reason
    running.finish()
    assert told[0].reason in running.watcher.said


def test_a_key_file_that_others_may_read_is_refused(tmp_path):
    """A key that anybody could have read is no key."""
    path = tmp_path / "key"
    credentials.write(credentials.Credentials("127.0.0.1:1", "00" * 32), path)
    path.chmod(0o640)
    with pytest.raises(UsageError, match="other users may read"):
        credentials.read(path)
    agent = start_agent("--key-file", path)
    _, said = agent.communicate(timeout=60)
    assert agent.returncode == 2
    assert "chmod 600" in said


def test_an_agent_without_a_coordinator_says_so(tmp_path):
    """Where nobody listens, it ends with a sentence and a status other than 0."""
    path = tmp_path / "key"
    credentials.write(credentials.Credentials("127.0.0.1:9", "00" * 32), path)
    agent = start_agent("--key-file", path)
    _, said = agent.communicate(timeout=60)
    assert agent.returncode == 1
    assert "no coordinator at 127.0.0.1:9" in said


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "TRT_DP_ADDRESS is not set"),
        (["--key"], "an agent is started as"),
        (["--key-file", "/no/such"], "cannot read the key file /no/such"),
    ],
)
def test_an_agent_that_is_started_wrongly_says_how(words, sentence):
    """A missing key and an unknown option are one sentence."""
    agent = start_agent(*words)
    _, said = agent.communicate(timeout=60)
    assert agent.returncode == 2
    assert sentence in said


def test_an_agent_that_is_dropped_at_the_door_knocks_again(monkeypatch):
    """A door drops some of hundreds that knock at once, and most launchers start no second agent."""
    monkeypatch.setattr(agent_main, "_PAUSES", (0.0, 0.0))
    with socket.create_server(("127.0.0.1", 0)) as door, ThreadPoolExecutor() as threads:
        port = door.getsockname()[1]
        entering = threads.submit(agent_main.serve, Credentials(f"127.0.0.1:{port}", "00" * 32))
        for _ in range(3):
            door.accept()[0].close()
        with pytest.raises(TrtDpError, match=f"127.0.0.1:{port} is not this run's coordinator"):
            entering.result()


def test_a_wrong_key_does_not_join(tmp_path, dataset):
    """Who knows the address and the certificate, but not the key, is not let in."""
    running = Running(dataset, tmp_path, limits=Limits(host_seconds=2.0))
    door = credentials.read(running.key)
    with pytest.raises(ChannelClosed, match="is not this run's coordinator"):
        knock(door.address, b"x" * 32, certificate=door.certificate)
    running.finish()
    assert isinstance(running.error, NoWorkersLeft)
