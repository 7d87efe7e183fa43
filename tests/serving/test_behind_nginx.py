"""Real NGINX in front of real servers: spread, streamed, repeated where that is right, and started again."""

from __future__ import annotations

import shutil
import signal
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from conftest import children, wait_until
from own_server import JSON, Client
from running import Serving

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin")
pytestmark = [
    pytest.mark.nginx,
    pytest.mark.skipif(
        not NGINX, reason="nginx is not installed (scripts/nginx-check installs it)"
    ),
]
SLOW = ("--set", "tokens_per_step=1", "--set", "step_seconds=0.01")
ASKED = {"prompt": [1, 2, 3], "max_tokens": 20, "temperature": 0, "return_token_ids": True}


@pytest.fixture
def serving(tmp_path):
    """Starts two servers behind NGINX; gives them and a client of the proxy."""
    started = []

    def run(*words) -> tuple[Serving, Client]:
        started.append(
            Serving(tmp_path, "--engine", "echo", "--n-workers", 2, "--proxy", "nginx", *words)
        )
        (url,) = started[-1].urls(1)
        return started[-1], Client(int(url.rpartition(":")[2]), [])

    yield run
    for one in started:
        left = children(one.process.pid)
        one.process.send_signal(signal.SIGINT)
        assert one.process.wait(60) == 0
        assert not psutil.wait_procs(left, timeout=10)[1]


def behind(run: Serving) -> list[Client]:
    """The servers themselves, by what is said of them."""
    ports = [
        line.rpartition(":")[2] for line in run.text().splitlines() if line.startswith("server-")
    ]
    return [Client(int(port), []) for port in ports]


def ask_many(client: Client, count: int) -> list[int]:
    """The statuses of many calls, eight at a time."""
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda _: client.call("/v1/completions", ASKED)[0], range(count)))


def test_requests_are_spread_and_tokens_pass_one_by_one(serving):
    """Both servers get their share, and a stream arrives in as many parts as it was sent."""
    run, client = serving(*SLOW)
    assert ask_many(client, 40) == [200] * 40
    shares = [each.metric('trt_dp_server_requests_total{status="200"}') for each in behind(run)]
    assert sum(shares) == 40
    assert min(shares) >= 10
    with client.raw() as raw:
        body = b'{"prompt": [1], "max_tokens": 20, "stream": true}'
        head = "".join(f"{name}: {value}\r\n" for name, value in JSON.items())
        head += f"Host: x\r\nContent-Length: {len(body)}\r\n\r\n"
        raw.sendall(b"POST /v1/completions HTTP/1.1\r\n" + head.encode() + body)
        parts = []
        while not parts or b"[DONE]" not in parts[-1]:
            parts.append(raw.recv(65536))
    assert len(parts) >= 10


def test_a_dead_servers_requests_are_answered_by_the_other(serving):
    """With --deterministic, no client notices that a server was killed in the middle; it comes back."""
    run, client = serving(*SLOW, "--deterministic")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask_many, client, 80)
        wait_until(lambda: behind(run)[0].metric('trt_dp_server_requests_total{status="200"}') > 5)
        run.servers()[0].kill()
        assert asked.result(120) == [200] * 80
    wait_until(
        lambda: run.text().count("server-0 is ready") + run.text().count("server-1 is ready") == 3
    )


def test_a_dead_proxy_is_started_again(serving):
    """NGINX that is killed comes back on its port, and the servers stay as they are."""
    run, client = serving()
    (master,) = [
        p for p in children(run.process.pid) if p.name() == "nginx" and p.parent().name() != "nginx"
    ]
    servers = run.servers()
    master.kill()
    wait_until(lambda: run.text().count("nginx is ready") == 2)
    assert client.complete(**ASKED)["choices"][0]["token_ids"][:4] == [1, 2, 3, 1]
    assert run.servers() == servers
