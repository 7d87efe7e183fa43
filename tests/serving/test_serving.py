"""Servers that run: killed, stopped, failing, and ended, as real processes."""

from __future__ import annotations

import io
import os
import signal
import socket

import psutil
import pytest
from conftest import alive, children, marked, trt_dp_here, wait_until
from documented import install
from own_server import Client
from running import Serving


@pytest.fixture
def serving(tmp_path):
    """Starts servers, and ends what a failing test leaves."""
    started = []

    def run(*words, **more) -> Serving:
        started.append(Serving(tmp_path, *words, **more))
        return started[-1]

    yield run
    for one in started:
        one.process.kill()
        one.process.wait()


def ask(url: str):
    return Client(int(url.rpartition(":")[2]), []).complete(
        prompt=[1, 2, 3], max_tokens=4, temperature=0, return_token_ids=True
    )["choices"][0]["token_ids"]


def test_two_servers_answer_alike_and_a_killed_one_comes_back(tmp_path, serving):
    """Each endpoint answers; one that is killed is started again on its port, and Ctrl-C ends all with status 0."""
    run = serving("--engine", "echo", "--n-workers", 2)
    urls = run.urls(2)
    assert [ask(url) for url in urls] == [[1, 2, 3, 1]] * 2
    victim = run.servers()[0]
    victim.kill()
    wait_until(lambda: run.text().count("is ready") == 3)
    assert "died: it was killed by SIGKILL; it is started again" in run.text()
    assert [ask(url) for url in urls] == [[1, 2, 3, 1]] * 2
    assert victim.pid not in {process.pid for process in run.servers()}
    left = children(run.process.pid)
    run.process.send_signal(signal.SIGINT)
    assert run.process.wait(60) == 0
    assert not alive(left)
    assert run.text().endswith("stopped: nothing is left of the servers\n")
    assert (tmp_path / "servers/server-0/server-0.log").read_text().count("serving echo") >= 1


def test_a_killed_parent_leaves_nothing(serving):
    """After SIGKILL of `trt-dp serve` all servers end by themselves."""
    run = serving("--engine", "echo", "--n-workers", 2)
    run.urls(2)
    left = children(run.process.pid)
    assert len(left) >= 4  # two guards and two servers
    run.process.kill()
    run.process.wait()
    _, left = psutil.wait_procs(left, timeout=30)
    assert not left


def test_a_server_that_is_stuck_is_killed_and_started_again(serving):
    """One that is alive and does not answer for long has its restart, with that reason."""
    run = serving("--engine", "echo", "--n-workers", 1, "--silent-seconds", 0.1)
    url = run.urls(1)[0]
    run.servers()[0].suspend()
    wait_until(lambda: run.text().count("is ready") == 2)
    assert "it did not answer for 0.1 s; it is killed" in run.text()
    assert ask(url) == [1, 2, 3, 1]


def test_servers_that_never_load_end_the_command(serving):
    """After two tries it is retired, and the command ends with status 1 and the reason from a log."""
    run = serving("--engine", "echo", "--n-workers", 1, "--set", "refuse=error: no weights")
    assert run.process.wait(60) == 1
    assert run.text().count("it is started again") == 1
    last = run.text().splitlines()[-1]
    assert last.startswith("trt-dp: no server is left. server-0: it exited with status 1")
    assert "no weights" in last
    assert "server-0.log" in last


def test_an_engine_that_raises_costs_a_restart(serving):
    """A server whose engine fails in the middle ends, and another takes its place."""
    run = serving("--engine", "echo", "--n-workers", 1, "--set", "raise_on=0")
    url = run.urls(1)[0]
    with pytest.raises((OSError, AssertionError)):
        ask(url)
    wait_until(lambda: run.text().count("is ready") == 2)
    assert "RuntimeError: echo was told to raise" in run.text()


def test_a_port_in_use_is_one_sentence(tmp_path):
    """Nothing is started, and the command ends with status 2."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = trt_dp_here(
            "serve", "--engine", "echo", "--port", port, "--n-workers", 1, cwd=tmp_path
        )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"port {port} of 127.0.0.1 cannot be used: Address already in use" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_another_packages_server_is_started_like_ours(tmp_path, serving):
    """The server of docs/extending.md is found by its name, watched by its own path, and ended."""
    site = install(tmp_path / "site")
    (tmp_path / "model").mkdir()
    (tmp_path / "model/weights.txt").write_text("5")
    paths = os.pathsep.join(filter(None, [*site.values(), os.environ.get("PYTHONPATH")]))
    env = {**os.environ, "PYTHONPATH": paths}
    run = serving("--server", "files", tmp_path / "model", "--n-workers", 2, env=env)
    for url in run.urls(2):
        assert Client(int(url.rpartition(":")[2]), []).call("/weights.txt")[1] == "5"
    assert len(marked(str(tmp_path / "model"))) >= 2
    run.process.send_signal(signal.SIGTERM)
    assert run.process.wait(60) == 0
    assert not marked(str(tmp_path / "model"))


def test_a_live_table_shows_every_server(tmp_path):
    """Where it runs, its state, its restarts and its last death are in one table."""
    from rich.console import Console

    from trt_dp.display.serve import table
    from trt_dp.serving.fleet import View
    from trt_dp.serving.launch import Launch

    launch = Launch(
        name="server-0", url="http://127.0.0.1:8000", where="GPU 0", health="", command=(),
        environment={}, folder=tmp_path,
    )  # fmt: skip
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(table([View(launch, "ready", 65, 2, "killed\x1b[2J")]))
    text = console.export_text()
    for word in ("http://127.0.0.1:8000", "GPU 0", "ready", "1:05", "2", "killed\\x1b[2J"):
        assert word in text
